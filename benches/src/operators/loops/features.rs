//! The loops of features of windows.

use super::super::cases::Counts;
use super::super::rows::Rows;
use super::each;

pub(crate) fn window(rows: &Rows) -> Counts {
    const N: usize = 100;
    each(rows, Vec::new(), |kept: &mut Vec<f64>, x, out| {
        kept.extend_from_slice(x);
        let whole = kept.len() - kept.len() % N;
        out.extend(kept[..whole].chunks_exact(N).map(deviation));
        kept.drain(..whole);
    })
}

fn deviation(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (values.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / (n - 1.0)).sqrt()
}
