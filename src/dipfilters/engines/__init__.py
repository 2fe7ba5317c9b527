"""Products with a kernel matrix that nobody stores, N×N for N pixels; private to the package.

Every kernel here depends on two pixels through planes that belong to their displacement t alone,

    S_t(u) = mean over the channels of x(u) x(u + t),

so that an engine walks over the displacements, takes each plane through the same few stages, and adds what
comes out to the result. :mod:`~dipfilters.engines.program` says what the stages are. Two modules go
through them: :mod:`~dipfilters.engines.cpu` in compiled loops, and in torch, on any device,
:mod:`~dipfilters.engines.batched`, which hands kernels of one hidden layer to :mod:`~dipfilters.engines.card`
on a graphics card that Triton knows.

The error of a product K v is, with the largest eigenvalue λ_max of K, at most

    1e-6 λ_max ‖v‖ in float32, or 1e-4 λ_max ‖v‖ where many patches are nearly parallel, but not equal, as in
                   smooth parts of a picture without noise: there an angle loses half of its digits;
    1e-7 λ_max ‖v‖ in float64.

The product itself may be far smaller than λ_max ‖v‖, for a v like noise above all, and the error is then not
small beside it: about 1e-8 λ_max ‖v‖ was up to 5e-4 of the product. Twicing and its Krylov space take
products of pictures, with most of their length along the leading eigenvectors.
"""
