//! `finetune`.

use billion_workbench::{FinetuneReport, Workbench};

use crate::args::Finetune;
use crate::output;
use crate::progress::Bar;

pub fn run(workbench: &Workbench, args: &Finetune, json: bool) -> anyhow::Result<()> {
    let request = args.request(workbench)?;
    let bar = Bar::new();
    let report = workbench.finetune(&request, args.resume, &args.engine(), &mut |progress| {
        bar.show(progress);
    })?;
    drop(bar);
    if json {
        return output::json(&report);
    }
    show(&report);
    Ok(())
}

fn show(report: &FinetuneReport) {
    for verdict in report.verdicts() {
        output::print(&format!("{verdict}\n"));
    }
    for answer in &report.answers {
        output::print(&format!(
            "\n  asked   {}\n  dataset {}\n  before  {}\n  after   {}\n",
            output::one_line(&answer.prompt),
            output::one_line(&answer.wanted),
            output::one_line(&answer.base),
            output::one_line(&answer.tuned)
        ));
    }
    output::print("\n");
    let figures: Vec<(String, String)> = report
        .figures()
        .into_iter()
        .map(|fact| (fact.label, fact.value))
        .collect();
    output::pairs(&figures);
    output::print(&format!(
        "\nThe adapter is in {}; stored as run {}. Talk to it: billion chat --model '{}'\n",
        report.out, report.run, report.tuned
    ));
}
