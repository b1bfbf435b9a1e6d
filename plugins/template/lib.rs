//! How far a reading is from the moving average of its machine.
//!
//! State of a machine: the average, one number. The host keeps it; nothing may be remembered anywhere else.

use foreline_sdk::own::{self, OwnModel};
use foreline_sdk::weights::{Header, Missing, OutputKind};
use foreline_sdk::{Call, Config, Error};

/// Weight of a new reading in the average, where `config: { alpha: … }` does not say.
const ALPHA: f64 = 0.1;

/// The model.
struct Drift {
    alpha: f64,
}

impl OwnModel for Drift {
    fn load(weights: &[u8], config: &Config) -> Result<(Self, Header), Error> {
        config.only(&["alpha"])?;
        if !weights.is_empty() {
            return Err(Error::InvalidWeights("this model has none".to_owned()));
        }
        let alpha = config.get("alpha").map_or(Ok(ALPHA), str::parse);
        let alpha = alpha.ok().filter(|a| *a > 0.0 && *a <= 1.0).ok_or_else(|| {
            Error::InvalidConfig("'alpha' is a number above 0, at most 1".to_owned())
        })?;
        let features = vec![own::feature("temperature", "Cel", Missing::SkipRow)];
        let outputs = vec![own::output("drift", OutputKind::AnomalyScore)];
        let header = own::header("drift", env!("CARGO_PKG_VERSION"), features, outputs);
        Ok((Drift { alpha }, Header { state_width: 1, state_version: 1, ..header }))
    }

    fn score(&self, call: Call<'_>) -> Result<(), Error> {
        let rows = call.features.chunks_exact(call.width).zip(call.slots);
        for ((row, &slot), drift) in rows.zip(call.outputs) {
            let (reading, average) = (row[0], &mut call.state[slot as usize]);
            if average.is_nan() {
                // The machine's first row.
                *average = reading;
            }
            *drift = (reading - *average).abs();
            *average += self.alpha * (reading - *average);
        }
        Ok(())
    }
}

#[cfg(target_arch = "wasm32")]
foreline_sdk::own_plugin!(Drift);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_average_follows() {
        let config = Config::new(vec![("alpha".to_owned(), "0.5".to_owned())]);
        let model = own::open::<Drift>(&[], &config).unwrap();
        // Two machines: rows of one are adjacent, NaN is a machine that was not seen before.
        let (readings, times, slots) = ([10.0, 12.0, 12.0, 5.0], [1, 2, 3, 1], [0, 0, 0, 1]);
        let scored = model.score(4, &readings, &times, &slots, vec![f64::NAN; 2]).unwrap();
        assert_eq!(scored.outputs, [0.0, 2.0, 1.0, 0.0]);
        assert_eq!(scored.state, [11.5, 5.0]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for alpha in ["0", "2", "x", "NaN"] {
            let config = Config::new(vec![("alpha".to_owned(), alpha.to_owned())]);
            assert!(own::open::<Drift>(&[], &config).is_err(), "{alpha}");
        }
        assert!(own::open::<Drift>(b"weights", &Config::default()).is_err());
    }
}
