//! Small dense linear algebra: eigenvectors of the runs' covariance, and a regression that outliers do not
//! pull. Matrices have as many rows as there are runs, or as many columns as there are factors.

/// Eigenvalues, the largest first, and their vectors, of a symmetric matrix: Jacobi's rotations.
pub(super) fn eigen(mut matrix: Vec<Vec<f64>>) -> Vec<(f64, Vec<f64>)> {
    const SWEEPS: usize = 30;
    let size = matrix.len();
    let mut vectors: Vec<Vec<f64>> =
        (0..size).map(|row| (0..size).map(|at| f64::from(at == row)).collect()).collect();
    for _ in 0..SWEEPS {
        let off: f64 = (0..size)
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .fold(0.0, |sum, (i, j)| sum + matrix[i][j] * matrix[i][j]);
        let all: f64 = matrix.iter().flatten().map(|value| value * value).sum();
        if off <= 1e-20 * all {
            break;
        }
        for i in 0..size {
            for j in i + 1..size {
                rotate(&mut matrix, &mut vectors, i, j);
            }
        }
    }
    let mut pairs: Vec<(f64, Vec<f64>)> =
        vectors.into_iter().enumerate().map(|(at, vector)| (matrix[at][at], vector)).collect();
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
    pairs
}

/// Turns two axes so that what is between them becomes 0. Vectors are rows.
fn rotate(matrix: &mut [Vec<f64>], vectors: &mut [Vec<f64>], i: usize, j: usize) {
    let between = matrix[i][j];
    if between == 0.0 {
        return;
    }
    let theta = (matrix[j][j] - matrix[i][i]) / (2.0 * between);
    let tangent = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
    let cosine = 1.0 / (tangent * tangent + 1.0).sqrt();
    let sine = tangent * cosine;
    let turn = |a: f64, b: f64| (cosine * a - sine * b, sine * a + cosine * b);
    for row in matrix.iter_mut() {
        (row[i], row[j]) = turn(row[i], row[j]);
    }
    for at in 0..matrix.len() {
        (matrix[i][at], matrix[j][at]) = turn(matrix[i][at], matrix[j][at]);
        (vectors[i][at], vectors[j][at]) = turn(vectors[i][at], vectors[j][at]);
    }
}

/// The coefficients of the columns that explain most values, whatever the few others are: iterated
/// weighting by Tukey's bisquare, from the coefficients `start` on.
pub(super) fn robust(columns: &[Vec<f64>], values: &[f64], start: Vec<f64>) -> Vec<f64> {
    const ROUNDS: usize = 30;
    /// Tukey's constant: 95 % efficient where there are no outliers.
    const REACH: f64 = 4.685;
    let mut coefficients = start;
    for _ in 0..ROUNDS {
        let residuals: Vec<f64> = (0..values.len())
            .map(|row| {
                let fitted: f64 =
                    columns.iter().zip(&coefficients).map(|(column, by)| column[row] * by).sum();
                values[row] - fitted
            })
            .collect();
        let scale = median(residuals.iter().map(|it| it.abs()).collect()) / 0.6745;
        if scale <= 0.0 {
            break;
        }
        let weights: Vec<f64> = residuals
            .iter()
            .map(|residual| {
                let at = residual / (REACH * scale);
                if at.abs() < 1.0 { (1.0 - at * at).powi(2) } else { 0.0 }
            })
            .collect();
        let Some(next) = weighted(columns, values, &weights) else { break };
        let change: f64 = next.iter().zip(&coefficients).map(|(a, b)| (a - b).abs()).sum();
        coefficients = next;
        if change < 1e-10 {
            break;
        }
    }
    coefficients
}

/// Weighted least squares; none if the columns depend on each other.
fn weighted(columns: &[Vec<f64>], values: &[f64], weights: &[f64]) -> Option<Vec<f64>> {
    let product = |a: &[f64], b: &[f64]| -> f64 {
        a.iter().zip(b).zip(weights).map(|((a, b), weight)| a * b * weight).sum()
    };
    let mut rows: Vec<Vec<f64>> = columns
        .iter()
        .map(|a| {
            let of_columns = columns.iter().map(|b| product(a, b));
            of_columns.chain([product(a, values)]).collect()
        })
        .collect();
    solve(&mut rows)
}

/// Gauss's elimination with pivots.
fn solve(rows: &mut [Vec<f64>]) -> Option<Vec<f64>> {
    let size = rows.len();
    for at in 0..size {
        let pivot = (at..size).max_by(|a, b| rows[*a][at].abs().total_cmp(&rows[*b][at].abs()))?;
        rows.swap(at, pivot);
        if rows[at][at].abs() < 1e-12 {
            return None;
        }
        let (above, below) = rows.split_at_mut(at + 1);
        let pivot = above.last()?;
        for row in below {
            let by = row[at] / pivot[at];
            for (value, of_pivot) in row.iter_mut().zip(pivot).skip(at) {
                *value -= by * of_pivot;
            }
        }
    }
    let mut solution = vec![0.0; size];
    for at in (0..size).rev() {
        let known: f64 = (at + 1..size).map(|column| rows[at][column] * solution[column]).sum();
        solution[at] = (rows[at][size] - known) / rows[at][at];
    }
    Some(solution)
}

/// The middle of some values; 0 of none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}

/// The value at which half of the weight is reached; 0 of none.
pub(super) fn weighted_median(mut values: Vec<(f64, f64)>) -> f64 {
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half: f64 = values.iter().map(|it| it.1).sum::<f64>() / 2.0;
    let mut sum = 0.0;
    for (value, weight) in values {
        sum += weight;
        if sum >= half {
            return value;
        }
    }
    0.0
}
