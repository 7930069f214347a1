//! Gradients and losses of every family against PEFT and PyTorch and against differences.

use billion_kernels::Isa;
use billion_llm::adapter::Adapter;
use billion_llm::device::Device;

use super::fixtures::{CASES, How, gradients, model, peft, with_engine};
use crate::train::candle::CandleEngine;
use crate::train::optimizer::{AdamW, clip};
use crate::train::options::TrainOptions;
use crate::train::run::mean_loss;
use crate::train::trainable::Trainable;

/// Of a module's gradient, relative to its norm: what the issue asks for.
const GRADIENT_TOLERANCE: f64 = 1e-3;

/// Of a slope by differences: losses are sums in f32, exact to about 1e-6, over steps of 2e-3.
const DIFFERENCE_TOLERANCE: f64 = 1e-3;

/// Of ten steps' losses.
const LOSS_TOLERANCE: f64 = 1e-3;

fn norm(x: impl Iterator<Item = f64>) -> f64 {
    x.map(|x| x * x).sum::<f64>().sqrt()
}

/// |found - expected| / |expected|.
fn difference(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected);
    let apart = norm(pairs.map(|(a, b)| f64::from(*a) - f64::from(*b)));
    apart / norm(expected.iter().map(|x| f64::from(*x))).max(1e-12)
}

fn check_modules(case: &str, found: &Adapter, expected: &Adapter) {
    assert_eq!(found.modules.len(), expected.modules.len());
    for (found, expected) in found.modules.iter().zip(&expected.modules) {
        for (letter, found_part, expected_part) in
            [("A", &found.a, &expected.a), ("B", &found.b, &expected.b)]
        {
            let off = difference(found_part, expected_part);
            assert!(
                off < GRADIENT_TOLERANCE,
                "{case}: block {} {:?} {letter}: off by {off}",
                found.layer,
                found.target
            );
        }
    }
}

#[test]
fn gradients_and_ten_steps_follow_peft_in_every_family() {
    for (fixture, path) in CASES {
        let (files, peft) = (model(path), peft(fixture));
        let spec = files.spec();
        let trainable = Trainable::new(spec, &peft.options).unwrap();
        let like = trainable.adapter(&vec![0.0; trainable.len], spec).unwrap();
        let start = peft.adapter("start", &files, &like);
        let start = trainable.numbers(&start, spec).unwrap();
        let expected = peft.adapter("gradient", &files, &like);
        for isa in Isa::available() {
            for recompute in [false, true] {
                let how = How {
                    isa,
                    threads: 2,
                    recompute,
                };
                let case = format!("{path} on {} recompute {recompute}", isa.name());
                with_engine(&files, &trainable, how, |engine| {
                    let (loss, gradient) = gradients(engine, &start, &peft.rows, 0.0);
                    assert!(
                        (loss - peft.losses[0]).abs() < LOSS_TOLERANCE,
                        "{case}: {loss}"
                    );
                    check_modules(
                        &case,
                        &trainable.adapter(&gradient, spec).unwrap(),
                        &expected,
                    );
                    let alone = mean_loss(engine, &start, &peft.rows).unwrap();
                    assert!(
                        (alone - loss).abs() < 1e-6,
                        "{case}: {alone}, training {loss}"
                    );

                    let options = TrainOptions {
                        weight_decay: 0.02,
                        ..peft.options.clone()
                    };
                    let mut numbers = start.clone();
                    let mut optimizer = AdamW::new(trainable.len);
                    for (step, expected) in (1..).zip(&peft.losses) {
                        let (loss, mut gradient) = gradients(engine, &numbers, &peft.rows, 0.0);
                        assert!(
                            (loss - expected).abs() < LOSS_TOLERANCE,
                            "{case} step {step}: {loss}, PyTorch {expected}"
                        );
                        clip(&mut gradient, Some(0.5));
                        let rate = f64::from(options.learning_rate);
                        optimizer.step(&options, step, rate, &mut numbers, &gradient);
                    }
                });
            }
        }
    }
}

#[test]
fn both_trainers_agree() {
    for (fixture, path) in CASES {
        let (files, peft) = (model(path), peft(fixture));
        let spec = files.spec();
        let trainable = Trainable::new(spec, &peft.options).unwrap();
        let like = trainable.adapter(&vec![0.0; trainable.len], spec).unwrap();
        let start = peft.adapter("start", &files, &like);
        let start = trainable.numbers(&start, spec).unwrap();
        let (loss, gradient) = with_engine(&files, &trainable, How::default(), |engine| {
            gradients(engine, &start, &peft.rows, 0.0)
        });
        let tensors = files.tensors().unwrap();
        let mut candle = CandleEngine::new(spec, &tensors, &trainable, Device::Cpu).unwrap();
        let (second, by_autograd) = gradients(&mut candle, &start, &peft.rows, 0.0);
        assert!(
            (loss - second).abs() < 1e-5,
            "{path}: {loss}, candle {second}"
        );
        let adapter = |numbers: &[f32]| trainable.adapter(numbers, spec).unwrap();
        check_modules(path, &adapter(&gradient), &adapter(&by_autograd));
        let alone = mean_loss(&mut candle, &start, &peft.rows).unwrap();
        assert!((alone - second).abs() < 1e-6);
    }
}

#[test]
fn gradients_of_every_tensor_are_differences_with_and_without_dropout() {
    for (fixture, path) in CASES {
        let (files, peft) = (model(path), peft(fixture));
        let trainable = Trainable::new(files.spec(), &peft.options).unwrap();
        let like = trainable
            .adapter(&vec![0.0; trainable.len], files.spec())
            .unwrap();
        let start = peft.adapter("start", &files, &like);
        let start = trainable.numbers(&start, files.spec()).unwrap();
        for dropout in [0.0, 0.25] {
            with_engine(&files, &trainable, How::default(), |engine| {
                let (_, gradient) = gradients(engine, &start, &peft.rows, dropout);
                for part in trainable.parts() {
                    // Along the gradient itself, where a difference is largest beside rounding.
                    let own = &gradient[part.clone()];
                    let size = norm(own.iter().map(|g| f64::from(*g)));
                    let mut moved = |by: f64| {
                        let mut numbers = start.clone();
                        for (number, gradient) in numbers[part.clone()].iter_mut().zip(own) {
                            *number += (by * f64::from(*gradient) / size) as f32;
                        }
                        gradients(engine, &numbers, &peft.rows, dropout).0
                    };
                    // Fourth order; the step that suits the curvature and the rounding of f32 best counts.
                    let mut slope = |step: f64| {
                        let near = moved(step) - moved(-step);
                        let far = moved(2.0 * step) - moved(-2.0 * step);
                        (8.0 * near - far) / (12.0 * step)
                    };
                    let slopes = [4e-3, 1e-3, 4e-4].map(&mut slope);
                    let off = slopes.map(|slope| (slope - size).abs());
                    let off = off.into_iter().fold(f64::INFINITY, f64::min);
                    assert!(
                        off < GRADIENT_TOLERANCE * size + DIFFERENCE_TOLERANCE,
                        "{path} dropout {dropout} at {part:?}: {size}, by differences {slopes:?}"
                    );
                }
            });
        }
    }
}

#[test]
fn nothing_depends_on_threads_and_the_start_is_the_base() {
    for (fixture, path) in CASES {
        let (files, peft) = (model(path), peft(fixture));
        let trainable = Trainable::new(files.spec(), &peft.options).unwrap();
        let start = trainable.start(5);
        assert_eq!(start, trainable.start(5));
        assert!(start != trainable.start(6));
        let run = |threads| {
            let how = How {
                threads,
                ..How::default()
            };
            with_engine(&files, &trainable, how, |engine| {
                gradients(engine, &start, &peft.rows, 0.1)
            })
        };
        let one = run(1);
        assert!(
            one.0.is_finite() && one == run(2) && one == run(3),
            "{path}"
        );
        // Only B has a gradient while B is 0.
        for (i, part) in trainable.parts().enumerate() {
            let zero = one.1[part.clone()].iter().all(|g| *g == 0.0);
            let b = start[part].iter().all(|n| *n == 0.0);
            assert_eq!(zero, !b, "{path} part {i}");
        }
        let none = vec![0.0; trainable.len];
        let (with, without) = with_engine(&files, &trainable, How::default(), |engine| {
            (
                mean_loss(engine, &start, &peft.rows).unwrap(),
                mean_loss(engine, &none, &peft.rows).unwrap(),
            )
        });
        assert_eq!(
            with.to_bits(),
            without.to_bits(),
            "{path}: B = 0 is the base"
        );
    }
}
