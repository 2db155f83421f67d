"""MurmurHash2, 64 bits, as GCC's std::hash computes it: Envoy's `MURMUR_HASH_2` for rings built elsewhere."""

_MULTIPLIER = 0xC6A4A7935BD1E995
_SEED = 0xC70F6907
_MASK64 = (1 << 64) - 1


def _shift_mix(value: int) -> int:
    return value ^ (value >> 47)


def murmur_hash2(data: bytes) -> int:
    """The hash of `data` with std::hash's seed."""
    length = len(data)
    aligned = length & ~7
    result = _SEED ^ (length * _MULTIPLIER & _MASK64)
    for at in range(0, aligned, 8):
        word = int.from_bytes(data[at : at + 8], "little") * _MULTIPLIER & _MASK64
        result = (result ^ (_shift_mix(word) * _MULTIPLIER & _MASK64)) * _MULTIPLIER & _MASK64
    if aligned < length:
        result = (result ^ int.from_bytes(data[aligned:], "little")) * _MULTIPLIER & _MASK64
    result = _shift_mix(result) * _MULTIPLIER & _MASK64
    return _shift_mix(result)
