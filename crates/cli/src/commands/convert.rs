//! `convert`.

use anyhow::bail;
use billion_workbench::Workbench;
use billion_workbench::api::ConvertRequest;

use crate::args::Convert;
use crate::output;
use crate::progress::Bar;

pub fn run(workbench: &Workbench, args: Convert, json: bool) -> anyhow::Result<()> {
    let Some(out) = args.out.to_str() else {
        bail!(
            "{} is not a name in UTF-8; choose another",
            args.out.display()
        );
    };
    let adapter = match &args.adapter {
        Some(adapter) => match adapter.to_str() {
            Some(adapter) => Some(adapter.to_owned()),
            None => bail!(
                "{} is not a name in UTF-8; choose another folder",
                adapter.display()
            ),
        },
        None => None,
    };
    let request = ConvertRequest {
        model: args.model,
        quant: args.quant.id(),
        out: Some(out.to_owned()),
        adapter,
    };
    let bar = Bar::new();
    let report = workbench.convert(&request, args.threads, &mut |progress| bar.show(progress))?;
    drop(bar);
    if json {
        return output::json(&report);
    }
    output::print(&format!(
        "{} holds {} as {}: {} in {:.1} s\n",
        report.out,
        report.model,
        report.quant.to_uppercase(),
        output::size(report.bytes),
        report.seconds
    ));
    if let Some(merge) = &report.merge {
        output::print(&format!(
            "{} merged; over {} tokens its logits are off from those of model and adapter by {:.1} % ({:.0} % pass for {}; the \
             adapter moves them by {:.1} %)\n",
            merge.adapter,
            merge.tokens,
            100.0 * merge.difference,
            100.0 * merge.bound,
            report.quant.to_uppercase(),
            100.0 * merge.moved
        ));
    }
    Ok(())
}
