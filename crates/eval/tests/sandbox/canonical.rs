//! The self-test: every canonical solution passes, and `return None` passes nowhere.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use billion_eval::tasks::humaneval::{
    Attempt, PROBLEMS, Verdict, judge_all, read_problems, self_test,
};
use billion_eval::{Error, Event};

use super::{alone, cores, pack, problem, python, seconds};

#[test]
fn every_canonical_solution_passes_and_return_none_passes_nowhere() {
    let _turn = alone();
    let problems = read_problems(&pack().join("humaneval/HumanEval.jsonl.gz")).expect("problems");
    assert_eq!(problems.len(), PROBLEMS);
    let start = Instant::now();
    let mut told = 0;
    let mut on_event = |event: Event<_>| {
        if let Event::Answered { done, total, .. } = event {
            told += 1;
            assert_eq!((done, total), (told, 2 * PROBLEMS));
        }
        ControlFlow::Continue(())
    };
    // More time than the default, since other tests may run beside this one.
    let found = self_test(python(), &problems, &seconds(30), cores(), &mut on_event);
    let found = found.expect("every program gets a verdict");
    println!(
        "self-test: {:.1} s on {} cores",
        start.elapsed().as_secs_f64(),
        cores()
    );
    for (problem, judgement) in problems.iter().zip(&found.canonical) {
        let id = &problem.task_id;
        assert_eq!(judgement.verdict, Verdict::Passed, "{id}: {judgement:?}");
    }
    for (problem, judgement) in problems.iter().zip(&found.nothing) {
        let id = &problem.task_id;
        assert_eq!(
            judgement.verdict,
            Verdict::WrongAnswer,
            "{id}: {judgement:?}"
        );
        assert!(judgement.detail.contains("None"), "{id}: {judgement:?}");
    }
    assert!(found.is_sound() && told == 2 * PROBLEMS);
}

#[test]
fn a_run_is_cancelled_at_once_even_in_the_middle_of_a_program() {
    let _turn = alone();
    let endless = problem("    assert candidate(1) == 1\n");
    let attempt = Attempt {
        problem: &endless,
        completion: "    while True:\n        pass\n",
    };
    let start = Instant::now();
    let mut on_event = |event: Event<_>| {
        assert!(matches!(event, Event::Step { done: 0, .. }), "{event:?}");
        ControlFlow::Break(())
    };
    let result = judge_all(python(), &[attempt; 4], &seconds(60), 2, &mut on_event);
    assert!(matches!(result, Err(Error::Cancelled)));
    assert!(start.elapsed() < Duration::from_secs(20));
}
