// Invented charts in every form the window draws, as the workbench makes them: in the units of their axes. Never part of
// a production build, and no figure here was measured.
import type { Axis, ChartData, ChartMark, ChartPoint, ChartSeries, Figure, ModelEntry, ScorecardRow } from "./index";

const GUESSING = { value: 25, label: "guessing" };

function axis(label: string, unit: string, change: Partial<Axis> = {}): Axis {
  return { label, unit, categories: [], min: 0, log: false, reference: null, ...change };
}

function point(x: number, found: Figure, scale: number): ChartPoint {
  const scaled = (end: number | null): number | null => (end === null ? null : end * scale);
  return { x, y: found.value * scale, lo: scaled(found.lo), hi: scaled(found.hi), value: null };
}

/** The charts of a scorecard; one without any figure is left out. */
export function fakeCharts(rows: ScorecardRow[]): ChartData[] {
  const names = rows.map((row) => row.name);
  const models = (): Axis => axis("Model", "", { categories: names, min: null });
  const dots = (
    title: string,
    y: Axis,
    pick: (row: ScorecardRow) => Figure | null,
    scale: number,
    task = "",
  ): ChartData => ({
    title,
    form: "dots",
    x: models(),
    y,
    value: null,
    series: rows.flatMap((row, x): ChartSeries[] => {
      const found = pick(row);
      if (found === null) return [];
      const marks = row.references
        .filter((said) => said.task === task)
        .map((said): ChartMark => ({ x, y: said.value * 100, kind: said.kind, label: said.source }));
      return [{ model: row.model, name: row.name, points: [point(x, found, scale)], marks }];
    }),
  });
  const against = (title: string, x: Axis, pick: (row: ScorecardRow) => Figure | null, scale: number): ChartData => ({
    title,
    form: "scatter",
    x,
    y: axis("MMLU accuracy", "%", { reference: GUESSING }),
    value: null,
    series: rows.flatMap((row): ChartSeries[] => {
      const found = pick(row);
      if (row.mmlu === null || found === null) return [];
      return [{ model: row.model, name: row.name, points: [point(found.value * scale, row.mmlu, 100)], marks: [] }];
    }),
  });
  return [
    dots("MMLU accuracy with 95 % intervals", axis("MMLU accuracy", "%", { reference: GUESSING }), (row) => row.mmlu, 100, "mmlu"),
    dots("HumanEval pass@1 with 95 % intervals", axis("HumanEval pass@1", "%"), (row) => row.humaneval, 100, "humaneval"),
    dots("Generation speed: median, slowest and fastest repeat", axis("Generation", "tokens/s"), (row) => row.decode, 1),
    against("Quality against memory: up and left is better", axis("Peak memory", "GB"), (row) => row.peak_memory, 1e-9),
    against("Quality against energy: up and left is better", axis("Energy", "J/token"), (row) => row.energy, 1),
  ].filter((chart) => chart.series.length > 0);
}

/** Accuracy in each subject, a cell a subject and model. */
export function subjectChart(subjects: string[], models: ModelEntry[]): ChartData {
  return {
    title: "MMLU accuracy by subject",
    form: "heat_map",
    x: axis("Subject", "", { categories: subjects, min: null }),
    y: axis("Model", "", { categories: models.map((model) => model.name), min: null }),
    value: axis("MMLU accuracy", "%", { reference: GUESSING }),
    series: models.map((model, y) => ({
      model: model.id,
      name: model.name,
      points: subjects.map((_, x) => ({ x, y, lo: null, hi: null, value: 10 + ((x * 13 + y * 29) % 60) })),
      marks: [],
    })),
  };
}

/** Quality and right answers per watt-hour against parameters, from all stored runs. */
export function storedCharts(models: ModelEntry[]): ChartData[] {
  const parameters = axis("Parameters", "billions", { min: null, log: true });
  const curve = (title: string, y: Axis, value: (at: number) => number): ChartData => ({
    title,
    form: "scatter",
    x: parameters,
    y,
    value: null,
    series: models.flatMap((model, at): ChartSeries[] =>
      model.params === null
        ? []
        : [
            {
              model: model.id,
              name: model.name,
              points: [{ x: model.params / 1e9, y: value(at), lo: value(at) * 0.9, hi: value(at) * 1.1, value: null }],
              marks: [],
            },
          ],
    ),
  });
  return [
    curve("Quality against parameters", axis("MMLU accuracy", "%", { reference: GUESSING }), (at) => [31, 26, 45, 25][at % 4] ?? 25),
    curve("Right answers per watt-hour against parameters", axis("Right answers", "per Wh", { min: null, log: true }), (at) => [2410, 310, 402, 171][at % 4] ?? 100),
  ];
}

/** Scores over the checkpoints of a training. */
export function checkpointChart(models: ModelEntry[]): ChartData {
  return {
    title: "Accuracy over training",
    form: "line",
    x: axis("Step", "", { min: null, log: true }),
    y: axis("MMLU accuracy", "%", { reference: GUESSING }),
    value: null,
    series: models.map((model, at) => ({
      model: model.id,
      name: model.name,
      points: [1, 3, 13, 143].map((thousand, place) => ({ x: thousand * 1000, y: 22 + place * (at + 1), lo: 20 + place * (at + 1), hi: 24 + place * (at + 1), value: null })),
      marks: [],
    })),
  };
}
