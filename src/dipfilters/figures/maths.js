// What the figures compute: patches, kernels, filter rows, twicing. The same formulas as the Python package,
// and tested against it. A picture is a Float64Array of channels, rows and columns, in that order.

/**
 * @typedef {{values: Float64Array, channels: number, height: number, width: number}} Picture
 * @typedef {(pp: number, pq: number, qq: number) => number} Kernel a similarity, from three inner products
 * @typedef {{patches: Float64Array, powers: Float64Array, count: number, length: number}} Patches
 * @typedef {{basis: Float64Array[], values: number[], vectors: number[][], norm: number}} Krylov
 */

/**
 * The place of a pixel beyond the border: mirrored at the outermost pixels.
 * @param {number} at
 * @param {number} length
 */
export function mirrored(at, length) {
  const inside = at < 0 ? -at : at;
  return inside < length ? inside : 2 * (length - 1) - inside;
}

/**
 * The patch around every pixel, and its mean square ⟨p, p⟩.
 * @param {Picture} picture
 * @param {number} size
 * @returns {Patches}
 */
export function extractPatches(picture, size) {
  const { values, channels, height, width } = picture;
  const [count, length, radius] = [height * width, channels * size * size, (size - 1) / 2];
  const patches = new Float64Array(count * length);
  const powers = new Float64Array(count);
  let at = 0;
  for (let i = 0; i < count; i++) {
    const [row, column] = [Math.floor(i / width), i % width];
    let power = 0;
    for (let c = 0; c < channels; c++) {
      for (let a = -radius; a <= radius; a++) {
        const line = (c * height + mirrored(row + a, height)) * width;
        for (let b = -radius; b <= radius; b++) {
          const value = values[line + mirrored(column + b, width)];
          patches[at++] = value;
          power += value * value;
        }
      }
    }
    powers[i] = power / length;
  }
  return { patches, powers, count, length };
}

/**
 * ⟨p, q⟩ of two patches, the mean of the products of their entries.
 * @param {Patches} all
 * @param {number} i
 * @param {number} j
 */
export function innerProduct(all, i, j) {
  const { patches, length } = all;
  let sum = 0;
  for (let a = i * length, b = j * length, end = a + length; a < end; a++, b++)
    sum += patches[a] * patches[b];
  return sum / length;
}

/**
 * cos φ of two patches; 0 where one of them is black.
 * @type {Kernel}
 */
export function cosine(pp, pq, qq) {
  const norms = Math.sqrt(pp * qq);
  if (!(norms > 0)) return 0;
  const value = Math.min(1, Math.max(-1, pq / norms));
  // A few rounding steps from 1 are 1, as in the Python package, since the kernels have a kink there.
  return 1 - Math.abs(value) <= 32 * Number.EPSILON ? Math.sign(value) : value;
}

/**
 * κ₀ = (π − φ) / π.
 * @param {number} cos
 */
export function kappa0(cos) {
  return 1 - Math.acos(cos) / Math.PI;
}

/**
 * κ₁ = (sin φ + (π − φ) cos φ) / π.
 * @param {number} cos
 */
export function kappa1(cos) {
  return Math.sqrt((1 - cos) * (1 + cos)) / Math.PI + kappa0(cos) * cos;
}

/**
 * exp(−‖p − q‖² / h²), the kernel of non-local means.
 * @param {number} bandwidth
 * @returns {Kernel}
 */
export function gaussianKernel(bandwidth) {
  return (pp, pq, qq) => Math.exp(-Math.max(0, pp + qq - 2 * pq) / bandwidth ** 2);
}

/**
 * ‖p‖ ‖q‖ κ₁(φ) + ⟨p, q⟩ κ₀(φ), the tangent kernel of one hidden layer.
 * @type {Kernel}
 */
export function tangentKernel(pp, pq, qq) {
  const cos = cosine(pp, pq, qq);
  return Math.sqrt(pp * qq) * kappa1(cos) + pq * kappa0(cos);
}

/**
 * ⟨p, q⟩ of the patch i with every patch.
 * @param {Patches} all
 * @param {number} i
 */
export function innerProducts(all, i) {
  return all.powers.map((_, j) => innerProduct(all, i, j));
}

/**
 * The row of the row-normalised filter that computes pixel i: weights that sum to one. Where the kernel is 0 with
 * all patches, as it is for a black one, they make no average, and stay zeros.
 * @param {Patches} all
 * @param {Float64Array} inner the inner products of its patch with all
 * @param {number} i
 * @param {Kernel} kernel
 */
export function filterRow({ powers }, inner, i, kernel) {
  const row = powers.map((power, j) => kernel(powers[i], inner[j], power));
  const sum = row.reduce((a, b) => a + b);
  return row.map((weight) => weight / (sum || 1));
}

/**
 * The kernel between all pixels, row by row.
 * @param {Patches} all
 * @param {Kernel} kernel
 */
export function denseKernel(all, kernel) {
  const { count, powers } = all;
  const matrix = new Float32Array(count * count);
  for (let i = 0; i < count; i++) {
    matrix[i * count + i] = kernel(powers[i], powers[i], powers[i]);
    for (let j = 0; j < i; j++) {
      const value = kernel(powers[i], innerProduct(all, i, j), powers[j]);
      matrix[i * count + j] = value;
      matrix[j * count + i] = value;
    }
  }
  return matrix;
}

/**
 * @param {Float32Array} matrix
 * @param {Float64Array} vector
 */
export function times(matrix, vector) {
  const count = vector.length;
  const product = new Float64Array(count);
  for (let i = 0, at = 0; i < count; i++) {
    let sum = 0;
    for (let j = 0; j < count; j++) sum += matrix[at++] * vector[j];
    product[i] = sum;
  }
  return product;
}

/**
 * @param {ArrayLike<number>} a
 * @param {ArrayLike<number>} b
 */
export function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

/**
 * Eigenvalues and eigenvectors of a small symmetric matrix, by Jacobi's rotations; vectors[j][i] is the
 * entry i of the vector j.
 * @param {number[][]} matrix
 */
export function eigenpairs(matrix) {
  const n = matrix.length;
  const a = matrix.map((row) => [...row]);
  const vectors = a.map((_, i) => a.map((_, j) => Number(i === j)));
  for (let sweep = 0; sweep < 60; sweep++) {
    let rest = 0;
    let size = 0;
    for (let p = 0; p < n; p++)
      for (let q = 0; q < n; q++) {
        size += a[p][q] ** 2;
        if (p !== q) rest += a[p][q] ** 2;
      }
    if (rest <= 1e-26 * size) break;
    for (let p = 0; p < n; p++)
      for (let q = p + 1; q < n; q++) {
        if (a[p][q] === 0) continue;
        const theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
        const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
        const c = 1 / Math.hypot(t, 1);
        const s = t * c;
        for (let k = 0; k < n; k++)
          [a[k][p], a[k][q]] = [c * a[k][p] - s * a[k][q], s * a[k][p] + c * a[k][q]];
        for (let k = 0; k < n; k++) {
          [a[p][k], a[q][k]] = [c * a[p][k] - s * a[q][k], s * a[p][k] + c * a[q][k]];
          [vectors[p][k], vectors[q][k]] = [
            c * vectors[p][k] - s * vectors[q][k],
            s * vectors[p][k] + c * vectors[q][k],
          ];
        }
      }
  }
  return { values: a.map((row, i) => row[i]), vectors };
}

/**
 * Lanczos' method: an orthonormal basis of b, A b, A² b, …, and the eigenpairs of A within it.
 *
 * It ends where the steps of twicing up to `last` are known to a relative 1e-6, by the bound of
 * `dipfilters.LanczosTwicing`, looked at after every fourth product, or after `most` products.
 * @param {(vector: Float64Array) => Float64Array} apply
 * @param {Float64Array} start
 * @param {number} last
 * @param {number} [most]
 * @returns {Krylov}
 */
export function lanczos(apply, start, last, most = 60) {
  const norm = Math.sqrt(dot(start, start));
  /** @type {Float64Array[]} */
  const basis = [start.map((value) => value / (norm || 1))];
  /** @type {number[]} */
  const alpha = [];
  /** @type {number[]} */
  const beta = [];
  for (;;) {
    const m = basis.length;
    const next = apply(basis[m - 1]);
    alpha.push(dot(next, basis[m - 1]));
    for (let again = 0; again < 2; again++)
      for (const vector of basis) {
        const part = dot(next, vector);
        for (let i = 0; i < next.length; i++) next[i] -= part * vector[i];
      }
    const length = Math.sqrt(dot(next, next));
    if (m % 4 && m < most && length > 1e-12) {
      beta.push(length);
      basis.push(next.map((value) => value / length));
      continue;
    }
    const small = alpha.map((_, i) =>
      alpha.map((_, j) => (i === j ? alpha[i] : Math.abs(i - j) === 1 ? beta[Math.min(i, j)] : 0)),
    );
    const { values, vectors } = eigenpairs(small);
    let bound = 0;
    let least = Number.POSITIVE_INFINITY;
    const powers = values.map((_, j) => vectors[j][0] * vectors[j][m - 1]);
    for (let k = 0; k < last; k++) {
      let entry = 0;
      for (let j = 0; j < m; j++) {
        entry += powers[j];
        powers[j] *= 1 - values[j];
      }
      bound += Math.abs(entry);
      if (k === 0) least = Math.hypot(...values.map((value, j) => value * vectors[j][0]));
    }
    if (length * bound < 1e-6 * least || length < 1e-12 || m >= most) return { basis, values, vectors, norm };
    beta.push(length);
    basis.push(next.map((value) => value / length));
  }
}

/**
 * (I − (I − A)^k) applied to the start of the basis.
 * @param {Krylov} krylov
 * @param {number} k
 */
export function afterSteps(krylov, k) {
  const { basis, values, vectors, norm } = krylov;
  const result = new Float64Array(basis[0].length);
  for (let m = 0; m < basis.length; m++) {
    let weight = 0;
    for (let j = 0; j < values.length; j++)
      weight += (1 - (1 - values[j]) ** k) * vectors[j][0] * vectors[j][m];
    for (let i = 0; i < result.length; i++) result[i] += norm * weight * basis[m][i];
  }
  return result;
}

/**
 * Twicing with the filter of a picture: a function that prepares a vector for all numbers of steps.
 *
 * Rows that sum to one for non-local means, W = D⁻¹ K; a largest eigenvalue of one for the tangent kernel.
 * @param {Picture} picture
 * @param {number} size
 * @param {number | null} bandwidth that of the Gaussian kernel; null means the tangent kernel
 * @param {number} last
 */
export function twicing(picture, size, bandwidth, last) {
  const kernel = bandwidth === null ? tangentKernel : gaussianKernel(bandwidth);
  const matrix = denseKernel(extractPatches(picture, size), kernel);
  const ones = new Float64Array(picture.height * picture.width).fill(1);
  /** @type {Float64Array} */
  let roots = ones;
  let scale = 1;
  if (bandwidth === null) {
    const { values } = lanczos((vector) => times(matrix, vector), ones, 1, 14);
    scale = 1 / Math.max(...values);
  } else roots = times(matrix, ones).map(Math.sqrt);
  return (/** @type {Float64Array} */ start) => {
    const krylov = lanczos(
      (vector) =>
        times(
          matrix,
          vector.map((value, i) => value / roots[i]),
        ).map((value, i) => (scale * value) / roots[i]),
      start.map((value, i) => value * roots[i]),
      last,
    );
    const products = krylov.basis.length;
    const step = (/** @type {number} */ k) => afterSteps(krylov, k).map((value, i) => value / roots[i]);
    return { products, step };
  };
}

/**
 * Random numbers between 0 and 1, the same for the same seed: Lehmer's generator modulo 2³¹ − 1, whose products
 * a double holds exactly.
 * @param {number} seed a whole number from 1
 */
export function uniform(seed) {
  const modulus = 2 ** 31 - 1;
  let state = seed % modulus || 1;
  for (let warm = 0; warm < 8; warm++) state = (state * 48271) % modulus;
  return () => {
    state = (state * 48271) % modulus;
    return state / modulus;
  };
}

/**
 * Another seed, of other numbers, within those that Python takes.
 * @param {number} seed
 */
export function nextSeed(seed) {
  return 1 + (seed % (2 ** 31 - 2));
}

/**
 * Normal random numbers by the method of Box and Muller.
 * @param {number} seed
 * @param {number} count
 */
export function normals(seed, count) {
  const chance = uniform(seed);
  return Float64Array.from({ length: count }, () => {
    const radius = Math.sqrt(-2 * Math.log(chance()));
    return radius * Math.cos(2 * Math.PI * chance());
  });
}

/**
 * The peak signal-to-noise ratio in dB.
 * @param {ArrayLike<number>} a
 * @param {ArrayLike<number>} b
 */
export function psnr(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2;
  return -10 * Math.log10(sum / a.length);
}
