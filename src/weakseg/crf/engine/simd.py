"""Short float32 vectors inside compiled kernels: a numba type for LLVM's `<lanes x float>` and the operations needed.

Left to itself the compiler does not see that the few columns of one pixel fit a register. These make it certain, on
any processor: LLVM splits vectors that are wider than the machine's.

Everything stands at module level and takes its width from an argument of the vector type: numba keys what it compiled
by the values that a function closes over, and operations made anew in each process would be compiled anew in each.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
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


@intrinsic
def as_bits(typingctx, number):
    """The 32 bits of a float32, int32."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


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


@intrinsic
def difference(typingctx, a, b):
    """The vector a - b."""

    def generate(context, builder, signature, arguments):
        return builder.fsub(arguments[0], arguments[1], flags=_FAST)

    return a(a, b), generate


@intrinsic
def add(typingctx, a, b):
    """The vector a + b."""

    def generate(context, builder, signature, arguments):
        return builder.fadd(arguments[0], arguments[1], flags=_FAST)

    return a(a, b), generate


@intrinsic
def product(typingctx, a, b):
    """The vector a * b, lane by lane."""

    def generate(context, builder, signature, arguments):
        return builder.fmul(arguments[0], arguments[1], flags=_FAST)

    return a(a, b), generate


@intrinsic
def quotient(typingctx, a, b):
    """The vector a / b, lane by lane."""

    def generate(context, builder, signature, arguments):
        return builder.fdiv(arguments[0], arguments[1], flags=_FAST)

    return a(a, b), generate


@intrinsic
def fill(typingctx, scalar, like):
    """A vector as wide as `like`, every lane the scalar float32."""

    def generate(context, builder, signature, arguments):
        return _broadcast(builder, arguments[0], signature.return_type.lanes)

    return like(types.float32, like), generate


@intrinsic
def larger(typingctx, a, b):
    """The larger of a and b, lane by lane."""

    def generate(context, builder, signature, arguments):
        return _call(builder, "maxnum", arguments)

    return a(a, b), generate


@intrinsic
def where_above(typingctx, value, limit, yes, no):
    """Lanes of `yes` where `value` is above the scalar limit, of `no` elsewhere."""

    def generate(context, builder, signature, arguments):
        limits = _broadcast(builder, arguments[1], signature.return_type.lanes)
        return builder.select(builder.fcmp_ordered(">", arguments[0], limits), arguments[2], arguments[3])

    return yes(value, types.float32, yes, yes), generate


@intrinsic
def exp_of_negative(typingctx, value):
    """exp of lanes that are 0 or less, to 2 units in the last place; exp(-87) below -87."""

    def generate(context, builder, signature, arguments):
        lanes = signature.return_type.lanes
        vector, whole_vector = _llvm(signature.return_type), ir.VectorType(ir.IntType(32), lanes)

        def constant(number: float) -> Any:
            return ir.Constant(vector, [float(np.float32(number))] * lanes)

        def times_plus(a: Any, b: Any, c: Any) -> Any:
            return builder.fadd(builder.fmul(a, b, flags=_FAST), c, flags=_FAST)

        x = _call(builder, "maxnum", [arguments[0], constant(-87.0)])
        # x = whole * log 2 + rest, log 2 in two parts; a polynomial of the rest (Cephes, expf).
        whole = _call(builder, "floor", [times_plus(x, constant(1.44269504), constant(0.5))])
        rest = times_plus(whole, constant(-0.693359375), x)
        rest = times_plus(whole, constant(2.12194440e-4), rest)
        result = constant(1.9875691500e-4)
        for factor in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
            result = times_plus(result, rest, constant(factor))
        result = times_plus(builder.fmul(result, rest, flags=_FAST), rest, builder.fadd(rest, constant(1.0)))
        exponent = builder.add(builder.fptosi(whole, whole_vector), ir.Constant(whole_vector, [127] * lanes))
        power = builder.bitcast(builder.shl(exponent, ir.Constant(whole_vector, [23] * lanes)), vector)
        return builder.fmul(result, power, flags=_FAST)

    return value(value), generate


@intrinsic
def largest_size(typingctx, so_far, value):
    """Lane by lane the larger of `so_far` and |value|."""

    def generate(context, builder, signature, arguments):
        return _call(builder, "maxnum", [arguments[0], _call(builder, "fabs", [arguments[1]])])

    return so_far(so_far, value), generate


@intrinsic
def largest_lane(typingctx, value):
    """The largest lane, float32."""

    def generate(context, builder, signature, arguments):
        reduce = _declare(builder, "vector.reduce.fmax", ir.FloatType(), arguments[0].type, arguments)
        return builder.call(reduce, arguments, fastmath=["nnan"])

    return types.float32(value), generate


@intrinsic
def sum_of_lanes(typingctx, value):
    """The sum of the lanes, float32."""

    def generate(context, builder, signature, arguments):
        arguments = [ir.Constant(ir.FloatType(), 0.0), arguments[0]]
        reduce = _declare(builder, "vector.reduce.fadd", ir.FloatType(), arguments[1].type, arguments)
        return builder.call(reduce, arguments, fastmath=list(_FAST))

    return types.float32(value), generate


def _declare(builder: Any, name: str, result: Any, vector: Any, arguments: Any) -> Any:
    """An operation that LLVM has for vectors of any width."""
    function = ir.FunctionType(result, [argument.type for argument in arguments])
    return cgutils.get_or_insert_function(builder.module, function, f"llvm.{name}.v{vector.count}f32")


def _call(builder: Any, name: str, arguments: Any) -> Any:
    vector = arguments[0].type
    return builder.call(_declare(builder, name, vector, vector, arguments), arguments)
