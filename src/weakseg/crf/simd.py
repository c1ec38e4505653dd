"""Short float32 vectors inside compiled kernels: a numba type for LLVM's `<lanes x float>` and the operations needed.

Left to itself the compiler does not see that the few columns of one pixel fit a register. These make it certain, on
any processor: LLVM splits vectors that are wider than the machine's.
"""

from functools import lru_cache
from typing import Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

_FAST = ("nnan", "nsz", "contract", "reassoc")
_FLOATS_ALIGNMENT = 4


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


class Operations(NamedTuple):
    """Operations on vectors of one width, callable inside compiled functions; offsets are in floats, uint64."""

    zero: Any
    load: Any
    store: Any
    madd: Any
    gather: Any
    scatter: Any


@intrinsic
def as_float(typingctx, bits):
    """The float32 with these 32 bits."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


@lru_cache
def operations(lanes: int, stride: int) -> Operations:
    """Operations for a width; `stride` is the distance of lanes in `gather` and `scatter`."""
    vector = FloatVector(lanes)
    llvm_vector = ir.VectorType(ir.FloatType(), lanes)

    def pointer(context: Any, builder: Any, array_type: Any, array: Any, offset: Any) -> Any:
        data = context.make_array(array_type)(context, builder, array).data
        return builder.gep(data, [offset])

    def broadcast(builder: Any, scalar: Any) -> Any:
        first = builder.insert_element(ir.Constant(llvm_vector, ir.Undefined), scalar, ir.IntType(32)(0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        return builder.shuffle_vector(first, ir.Constant(llvm_vector, ir.Undefined), mask)

    @intrinsic
    def zero(typingctx):
        def generate(context, builder, signature, arguments):
            return ir.Constant(llvm_vector, [0.0] * lanes)

        return vector(), generate

    @intrinsic
    def load(typingctx, array, offset):
        def generate(context, builder, signature, arguments):
            at = pointer(context, builder, signature.args[0], *arguments)
            return builder.load(builder.bitcast(at, llvm_vector.as_pointer()), align=_FLOATS_ALIGNMENT)

        return vector(array, types.uint64), generate

    @intrinsic
    def store(typingctx, array, offset, value):
        def generate(context, builder, signature, arguments):
            at = pointer(context, builder, signature.args[0], *arguments[:2])
            builder.store(arguments[2], builder.bitcast(at, llvm_vector.as_pointer()), align=_FLOATS_ALIGNMENT)
            return context.get_dummy_value()

        return types.void(array, types.uint64, vector), generate

    @intrinsic
    def madd(typingctx, total, factor, value):
        """Total + factor (a scalar) * value."""

        def generate(context, builder, signature, arguments):
            product = builder.fmul(broadcast(builder, arguments[1]), arguments[2], flags=_FAST)
            return builder.fadd(arguments[0], product, flags=_FAST)

        return vector(vector, types.float32, vector), generate

    @intrinsic
    def gather(typingctx, array, offset):
        """Lane c from offset + c * stride."""

        def generate(context, builder, signature, arguments):
            at = pointer(context, builder, signature.args[0], *arguments)
            result = ir.Constant(llvm_vector, ir.Undefined)
            for c in range(lanes):
                lane = builder.load(builder.gep(at, [ir.IntType(64)(c * stride)]))
                result = builder.insert_element(result, lane, ir.IntType(32)(c))
            return result

        return vector(array, types.uint64), generate

    @intrinsic
    def scatter(typingctx, array, offset, value):
        """Lane c to offset + c * stride."""

        def generate(context, builder, signature, arguments):
            at = pointer(context, builder, signature.args[0], *arguments[:2])
            for c in range(lanes):
                lane = builder.extract_element(arguments[2], ir.IntType(32)(c))
                builder.store(lane, builder.gep(at, [ir.IntType(64)(c * stride)]))
            return context.get_dummy_value()

        return types.void(array, types.uint64, vector), generate

    return Operations(zero, load, store, madd, gather, scatter)
