from pxr import Usd, UsdGeom

class _Light(UsdGeom.Xformable):
    def CreateIntensityAttr(self, defaultValue: float) -> Usd.Attribute: ...

class DistantLight(_Light):
    @staticmethod
    def Define(stage: Usd.Stage, path: str) -> DistantLight: ...

class DomeLight(_Light):
    @staticmethod
    def Define(stage: Usd.Stage, path: str) -> DomeLight: ...
