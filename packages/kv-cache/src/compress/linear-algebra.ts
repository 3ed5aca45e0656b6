/** Lower triangle L of A = L·Lᵀ for a symmetric matrix [n, n] in rows, or undefined where it is not positive definite. */
export function cholesky(a: ArrayLike<number>, n: number): Float64Array | undefined {
  const lower = new Float64Array(n * n);
  for (let row = 0; row < n; row++) {
    for (let column = 0; column <= row; column++) {
      let sum = a[row * n + column];
      for (let inner = 0; inner < column; inner++) sum -= lower[row * n + inner] * lower[column * n + inner];
      if (row === column && !(sum > 0)) return undefined;
      lower[row * n + column] = row === column ? Math.sqrt(sum) : sum / lower[column * n + column];
    }
  }
  return lower;
}

/** Inverse of A from its {@link cholesky} factor. */
export function inverseOf(lower: Float64Array, n: number): Float64Array {
  // Columns of L⁻¹ by forward substitution; A⁻¹ = L⁻ᵀ · L⁻¹.
  const inverse = new Float64Array(n * n);
  for (let column = 0; column < n; column++) {
    for (let row = column; row < n; row++) {
      let sum = row === column ? 1 : 0;
      for (let inner = column; inner < row; inner++) sum -= lower[row * n + inner] * inverse[inner * n + column];
      inverse[row * n + column] = sum / lower[row * n + row];
    }
  }
  const result = new Float64Array(n * n);
  for (let row = 0; row < n; row++) {
    for (let column = 0; column <= row; column++) {
      let sum = 0;
      for (let inner = row; inner < n; inner++) sum += inverse[inner * n + row] * inverse[inner * n + column];
      result[row * n + column] = sum;
      result[column * n + row] = sum;
    }
  }
  return result;
}

/** Eigenvalues of a symmetric matrix [n, n], largest first, by cyclic Jacobi rotations. */
export function eigenvalues(a: ArrayLike<number>, n: number): Float64Array {
  const m = Float64Array.from(a);
  const norm = Math.hypot(...m) || 1;
  for (let sweep = 0; sweep < 30; sweep++) {
    let off = 0;
    for (let row = 0; row < n; row++) for (let column = 0; column < row; column++) off += m[row * n + column] ** 2;
    if (Math.sqrt(2 * off) <= 1e-12 * norm) break;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) rotate(m, n, p, q);
  }
  return Float64Array.from({ length: n }, (_, index) => m[index * n + index])
    .sort()
    .reverse();
}

/** Makes m[p, q] zero. */
function rotate(m: Float64Array, n: number, p: number, q: number): void {
  const off = m[p * n + q];
  if (off === 0) return;
  const ratio = (m[q * n + q] - m[p * n + p]) / (2 * off);
  const tangent = (ratio < 0 ? -1 : 1) / (Math.abs(ratio) + Math.hypot(1, ratio));
  const cosine = 1 / Math.hypot(1, tangent);
  const sine = tangent * cosine;
  for (let index = 0; index < n; index++) {
    const [left, right] = [m[index * n + p], m[index * n + q]];
    m[index * n + p] = cosine * left - sine * right;
    m[index * n + q] = sine * left + cosine * right;
  }
  for (let index = 0; index < n; index++) {
    const [left, right] = [m[p * n + index], m[q * n + index]];
    m[p * n + index] = cosine * left - sine * right;
    m[q * n + index] = sine * left + cosine * right;
  }
}
