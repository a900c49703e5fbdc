# USD's Python names come from compiled modules without type information: what resip uses of them.
from pxr import Gf as Gf
from pxr import Sdf as Sdf
from pxr import Tf as Tf
from pxr import Usd as Usd
from pxr import UsdGeom as UsdGeom
from pxr import UsdLux as UsdLux
from pxr import UsdShade as UsdShade
from pxr import Vt as Vt
