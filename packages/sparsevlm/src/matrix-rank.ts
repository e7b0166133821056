/** The rank of a matrix, as numpy and torch count it. */

const epsilon = 2 ** -23; // of float32
const converged = 1e-14; // cosine of two rows that are orthogonal to float64's precision
const maxSweeps = 60;

/**
 * The number of singular values above max(R, C) * 2^-23 times the greatest: the default of
 * `torch.linalg.matrix_rank` for float32. In float64, so that rounding of the values alone decides.
 * @param rows [R, C], C columns each; not changed
 */
export function matrixRank(rows: readonly ArrayLike<number>[], columns: number): number {
  const values = singularValues(rows.map((row) => Float64Array.from(row)));
  const threshold = Math.max(rows.length, columns) * epsilon * Math.max(0, ...values);
  return values.filter((value) => value > threshold).length;
}

/**
 * One-sided Jacobi (Hestenes 1958): rotates pairs of rows until all are orthogonal; their norms are then the
 * singular values. Nothing is squared that loses digits, as the eigenvalues of rows times rows would.
 * @param rows [R, C], which it changes
 */
function singularValues(rows: readonly Float64Array[]): number[] {
  for (let sweep = 0, rotated = true; rotated && sweep < maxSweeps; sweep++) {
    rotated = false;
    for (let i = 0; i < rows.length; i++) {
      for (let j = i + 1; j < rows.length; j++) rotated = orthogonalise(rows[i], rows[j]) || rotated;
    }
  }
  return rows.map((row) => Math.sqrt(dot(row, row)));
}

/** Whether two rows were not orthogonal, and so were rotated. */
function orthogonalise(a: Float64Array, b: Float64Array): boolean {
  const [aa, bb, ab] = [dot(a, a), dot(b, b), dot(a, b)];
  if (Math.abs(ab) <= converged * Math.sqrt(aa * bb)) return false;
  const zeta = (bb - aa) / (2 * ab);
  const tangent = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.hypot(1, zeta));
  const cosine = 1 / Math.hypot(1, tangent);
  const sine = cosine * tangent;
  for (let c = 0; c < a.length; c++) {
    const [x, y] = [a[c], b[c]];
    a[c] = cosine * x - sine * y;
    b[c] = sine * x + cosine * y;
  }
  return true;
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let c = 0; c < a.length; c++) sum += a[c] * b[c];
  return sum;
}
