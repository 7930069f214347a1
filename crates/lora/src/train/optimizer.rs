//! AdamW, the learning rate of each step, and clipping by the norm of all gradients.

use super::options::{Schedule, TrainOptions};

/// AdamW with decoupled weight decay (I. Loshchilov, F. Hutter 2019, arXiv 1711.05101), in PyTorch's order of operations.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct AdamW {
    /// First moments.
    pub first: Vec<f32>,
    /// Second moments.
    pub second: Vec<f32>,
}

impl AdamW {
    pub fn new(len: usize) -> Self {
        Self {
            first: vec![0.0; len],
            second: vec![0.0; len],
        }
    }

    /// Step `step`, from 1.
    pub fn step(
        &mut self,
        options: &TrainOptions,
        step: u32,
        rate: f64,
        numbers: &mut [f32],
        gradients: &[f32],
    ) {
        let (beta1, beta2) = (options.beta1, options.beta2);
        let correct = |beta: f32| 1.0 - f64::from(beta).powf(f64::from(step));
        let size = (rate / correct(beta1)) as f32;
        let root = correct(beta2).sqrt() as f32;
        let decay = (1.0 - rate * f64::from(options.weight_decay)) as f32;
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((number, gradient), (first, second)) in numbers.iter_mut().zip(gradients).zip(moments)
        {
            *number *= decay;
            *first += (gradient - *first) * (1.0 - beta1);
            *second = *second * beta2 + gradient * gradient * (1.0 - beta2);
            *number -= size * *first / (second.sqrt() / root + options.epsilon);
        }
    }
}

/// Learning rate of step `step` of `of`, from 1: rises in a straight line over the warm-up, whose last step has the full rate,
/// and falls so that the step behind the last would have none.
pub(super) fn learning_rate(options: &TrainOptions, step: u32, of: u32) -> f64 {
    // A share in f32 may come to a hair more than a whole step.
    let warm = (f64::from(options.warmup) * f64::from(of) - 1e-4).ceil();
    let (step, of) = (f64::from(step), f64::from(of));
    let share = if step <= warm {
        step / warm
    } else {
        let gone = (step - 1.0 - warm).max(0.0) / (of - warm).max(1.0);
        match options.schedule {
            Schedule::Constant => 1.0,
            Schedule::Linear => 1.0 - gone,
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * gone).cos()),
        }
    };
    f64::from(options.learning_rate) * share
}

/// Shortens the gradients to norm `most`, as PyTorch does. Returns their norm before.
pub(super) fn clip(gradients: &mut [f32], most: Option<f32>) -> f64 {
    let squares: f64 = gradients.iter().map(|g| f64::from(*g).powi(2)).sum();
    let norm = squares.sqrt();
    if let Some(most) = most {
        let factor = f64::from(most) / (norm + 1e-6);
        if factor < 1.0 {
            let factor = factor as f32;
            for gradient in gradients {
                *gradient *= factor;
            }
        }
    }
    norm
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_and_falls() {
        let mut options = TrainOptions {
            learning_rate: 1.0,
            warmup: 0.2,
            ..TrainOptions::default()
        };
        let rates = |options: &TrainOptions| -> Vec<f64> {
            (1..=10)
                .map(|step| learning_rate(options, step, 10))
                .collect()
        };
        options.schedule = Schedule::Linear;
        let linear = rates(&options);
        assert_eq!(linear[..4], [0.5, 1.0, 1.0, 0.875]);
        assert!((linear[9] - 0.125).abs() < 1e-12);
        options.schedule = Schedule::Cosine;
        let cosine = rates(&options);
        assert_eq!(cosine[2], 1.0);
        assert!((cosine[6] - 0.5).abs() < 1e-12 && cosine[9] > 0.0 && cosine[9] < 0.05);
        options.schedule = Schedule::Constant;
        options.warmup = 0.0;
        assert_eq!(rates(&options), [1.0; 10]);
    }

    #[test]
    fn gradients_are_clipped_together() {
        let mut gradients = vec![3.0, 0.0, -4.0];
        assert_eq!(clip(&mut gradients, Some(10.0)), 5.0);
        assert_eq!(gradients, [3.0, 0.0, -4.0]);
        assert_eq!(clip(&mut gradients, Some(1.0)), 5.0);
        assert!((gradients[2] + 0.8).abs() < 1e-6);
        assert!(!clip(&mut [f32::NAN], None).is_finite());
    }
}
