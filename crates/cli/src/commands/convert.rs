//! `convert`.

use anyhow::bail;
use billion_workbench::Workbench;
use billion_workbench::api::ConvertRequest;

use crate::args::Convert;
use crate::output;
use crate::progress::Bar;

pub fn run(workbench: &Workbench, args: Convert, json: bool) -> anyhow::Result<()> {
    if let Some(adapter) = args.adapter {
        bail!(
            "--adapter {}: this version cannot merge adapters; leave --adapter out to convert the model itself",
            adapter.display()
        );
    }
    let Some(out) = args.out.to_str() else {
        bail!(
            "{} is not a name in UTF-8; choose another",
            args.out.display()
        );
    };
    let request = ConvertRequest {
        model: args.model,
        quant: args.quant.id(),
        out: Some(out.to_owned()),
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
    Ok(())
}
