from typing import Any

class ValueTypeName: ...

class ValueTypeNames:
    Color3f: ValueTypeName
    Float: ValueTypeName

class Layer:
    customLayerData: dict[str, Any]
    @staticmethod
    def FindOrOpen(identifier: str) -> Layer | None: ...
    def Save(self, force: bool = False) -> bool: ...
