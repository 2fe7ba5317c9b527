"""Products with a kernel matrix that nobody stores, N×N for N pixels; private to the package.

Every kernel here depends on two pixels through planes that belong to their displacement t alone,

    S_t(u) = mean over the channels of x(u) x(u + t),

so that an engine walks over the displacements, takes each plane through the same few stages, and adds what
comes out to the result. :mod:`~dipfilters.engines.program` says what the stages are,
:mod:`~dipfilters.engines.cpu` walks in compiled loops, :mod:`~dipfilters.engines.batched` in torch on a device.
"""
