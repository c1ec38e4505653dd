"""The same filter in numba and in C++: which is faster on one core?

    python bench/crf_language.py            # needs g++

Splat, blur and slice of eight columns on the bilateral lattice of a 500x375 image: `filter_columns` of
`weakseg.crf.engine.kernels` against the same loops in C++ (g++ -O3 -march=native, vectors of eight floats). Prints
agreement, then medians.
"""

import ctypes
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from crf import made_up, noisy

from weakseg.crf.engine.kernels import filter_columns
from weakseg.crf.engine.lattice import Lattice, bilateral_lattice

SOURCE = r"""
#include <cstdint>
#include <cstring>
typedef float v8 __attribute__((vector_size(32), aligned(4)));
extern "C" void filter(const float* columns, const uint16_t* corner, const float* weight, const int32_t* touched,
                       const int64_t* starts, int64_t tiles, const int32_t* chains, const int32_t* runs, int64_t n_runs,
                       float* values, float* out) {
  const int B = 64, R = 6;
  for (int64_t t = 0; t < tiles; t++)
    for (int b = 0; b < B; b++) {
      v8 c = *(const v8*)(columns + (t * B + b) * 8);
      for (int r = 0; r < R; r++) {
        int64_t i = (t * R + r) * B + b;
        *(v8*)(values + 8 * (int64_t)touched[starts[t] + corner[i]]) += weight[i] * c;
      }
    }
  const int32_t* p = chains;
  for (int64_t k = 0; k < n_runs; k++)
    for (int32_t c = 0; c < runs[2 * k + 1]; c++) {
      int64_t here = p[0];
      v8 before = {}, now = *(v8*)(values + 8 * here);
      for (int32_t j = 1; j < runs[2 * k]; j++) {
        v8 next = *(v8*)(values + 8 * (int64_t)p[j]);
        *(v8*)(values + 8 * here) = now + 0.5f * (before + next);
        before = now; now = next; here = p[j];
      }
      *(v8*)(values + 8 * here) = now + 0.5f * before;
      p += runs[2 * k];
    }
  for (int64_t t = 0; t < tiles; t++)
    for (int b = 0; b < B; b++) {
      v8 sum = {};
      for (int r = 0; r < R; r++) {
        int64_t i = (t * R + r) * B + b;
        sum += weight[i] * *(v8*)(values + 8 * (int64_t)touched[starts[t] + corner[i]]);
      }
      *(v8*)(out + (t * B + b) * 8) = sum;
    }
}
"""


def compiled_with_gpp(folder: Path) -> ctypes.CDLL:
    """The C++ filter as a library."""
    (folder / "filter.cpp").write_text(SOURCE, encoding="utf-8")
    command = ["g++", "-O3", "-march=native", "-ffast-math", "-shared", "-fPIC", "filter.cpp", "-o", "filter.so"]
    subprocess.run(command, cwd=folder, check=True)
    return ctypes.CDLL(str(folder / "filter.so"))


def in_cpp(library: ctypes.CDLL, lattice: Lattice, columns: np.ndarray) -> np.ndarray:
    """The filter in C++."""
    values = np.zeros(8 * lattice.points, dtype=np.float32)
    out = np.empty_like(columns)
    arrays = [columns, *lattice.corners]
    library.filter(
        *(array.ctypes.data_as(ctypes.c_void_p) for array in arrays), ctypes.c_int64(len(lattice.corners.number)),
        *(array.ctypes.data_as(ctypes.c_void_p) for array in (lattice.chains, lattice.runs)),
        ctypes.c_int64(len(lattice.runs)), values.ctypes.data_as(ctypes.c_void_p), out.ctypes.data_as(ctypes.c_void_p),
    )  # fmt: skip
    return out


def in_numba(lattice: Lattice, columns: np.ndarray) -> np.ndarray:
    """The engine's filter."""
    return filter_columns(columns, lattice.corners, lattice.chains, lattice.runs, lattice.points)


def median_ms(function: Callable[[], np.ndarray]) -> float:
    """Median of 15 calls."""
    function()
    times = []
    for _ in range(15):
        start = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times))


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        library = compiled_with_gpp(Path(folder))
        for name, (_, image) in (("smooth image", made_up(5)), ("noise", noisy(2))):
            lattice = bilateral_lattice(image, 60, 6)
            columns = np.random.default_rng(0).random((lattice.tiles.order.size, 8), dtype=np.float32)
            numba, cpp = in_numba(lattice, columns), in_cpp(library, lattice, columns)
            off = float(np.abs(numba / np.maximum(cpp, 1e-9) - 1)[lattice.mass > 0].max())
            times = median_ms(lambda: in_numba(lattice, columns)), median_ms(lambda: in_cpp(library, lattice, columns))  # noqa: B023
            print(
                f"{name}, {lattice.points} lattice points: largest relative difference {off:.1e}; "
                f"numba {times[0]:.1f} ms, C++ {times[1]:.1f} ms"
            )


if __name__ == "__main__":
    main()
