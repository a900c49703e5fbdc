from typing import Any

from numpy.typing import NDArray

class Vec3fArray:
    @staticmethod
    def FromNumpy(array: NDArray[Any]) -> Vec3fArray: ...
