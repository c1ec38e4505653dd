"""Short float32 vectors inside compiled kernels: a numba type for LLVM's `<lanes x float>` and the operations needed.

Left to itself the compiler does not see that the few columns of one pixel fit a register. These make it certain, on
any processor: LLVM splits vectors that are wider than the machine's.

Everything stands at module level and takes its width from an argument of the vector type: numba keys what it compiled
by the values that a function closes over, and operations made anew in each process would be compiled anew in each.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

_FAST = ("nnan", "nsz", "contract", "reassoc")
_FLOATS_ALIGNMENT = 4

STRIDE = 64
"""Distance of lanes in `gather` and `scatter`, in floats."""


class FloatVector(types.Type):
    """The numba type of a vector of `lanes` float32."""

    def __init__(self, lanes: int) -> None:
        """A vector type; equal for equal lanes."""
        self.lanes = lanes
        super().__init__(name=f"FloatVector({lanes})")


@register_model(FloatVector)
class _FloatVectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: FloatVector) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(ir.FloatType(), fe_type.lanes))


@intrinsic
def as_float(typingctx, bits):
    """The float32 with these 32 bits."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
    """Address of a float of an array; offsets are in floats, uint64."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [offset])


def _llvm(vector: FloatVector) -> ir.VectorType:
    return ir.VectorType(ir.FloatType(), vector.lanes)


def _broadcast(builder: Any, scalar: Any, lanes: int) -> Any:
    undefined = ir.Constant(ir.VectorType(ir.FloatType(), lanes), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.IntType(32)(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))


def _zeros(lanes: int) -> Any:
    @intrinsic
    def zeros(typingctx):
        def generate(context, builder, signature, arguments):
            return ir.Constant(_llvm(signature.return_type), [0.0] * lanes)

        return FloatVector(lanes)(), generate

    return zeros


zeros4, zeros8 = _zeros(4), _zeros(8)
"""A vector of 4 or 8 zeros."""


@intrinsic
def lanes_of(typingctx, like):
    """Lanes of a vector, uint64, known when compiled."""

    def generate(context, builder, signature, arguments):
        return ir.IntType(64)(signature.args[0].lanes)

    return types.uint64(like), generate


@intrinsic
def load(typingctx, array, offset, like):
    """Consecutive floats of an array as a vector as wide as `like`."""

    def generate(context, builder, signature, arguments):
        at = _pointer(context, builder, signature.args[0], *arguments[:2])
        whole = builder.bitcast(at, _llvm(signature.return_type).as_pointer())
        return builder.load(whole, align=_FLOATS_ALIGNMENT)

    return like(array, types.uint64, like), generate


@intrinsic
def store(typingctx, array, offset, value):
    """Write a vector to consecutive floats of an array."""

    def generate(context, builder, signature, arguments):
        at = _pointer(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], builder.bitcast(at, _llvm(signature.args[2]).as_pointer()), align=_FLOATS_ALIGNMENT)
        return context.get_dummy_value()

    return types.void(array, types.uint64, value), generate


@intrinsic
def madd(typingctx, total, factor, value):
    """Total + factor (a scalar) * value."""

    def generate(context, builder, signature, arguments):
        factors = _broadcast(builder, arguments[1], signature.args[0].lanes)
        return builder.fadd(arguments[0], builder.fmul(factors, arguments[2], flags=_FAST), flags=_FAST)

    return total(total, types.float32, total), generate


@intrinsic
def gather(typingctx, array, offset, like):
    """A vector as wide as `like`: lane c from offset + c * STRIDE."""

    def generate(context, builder, signature, arguments):
        at = _pointer(context, builder, signature.args[0], *arguments[:2])
        result = ir.Constant(_llvm(signature.return_type), ir.Undefined)
        for c in range(signature.return_type.lanes):
            lane = builder.load(builder.gep(at, [ir.IntType(64)(c * STRIDE)]))
            result = builder.insert_element(result, lane, ir.IntType(32)(c))
        return result

    return like(array, types.uint64, like), generate


@intrinsic
def scatter(typingctx, array, offset, value):
    """Write a vector, lane c to offset + c * STRIDE."""

    def generate(context, builder, signature, arguments):
        at = _pointer(context, builder, signature.args[0], *arguments[:2])
        for c in range(signature.args[2].lanes):
            lane = builder.extract_element(arguments[2], ir.IntType(32)(c))
            builder.store(lane, builder.gep(at, [ir.IntType(64)(c * STRIDE)]))
        return context.get_dummy_value()

    return types.void(array, types.uint64, value), generate
