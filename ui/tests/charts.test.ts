// What a chart draws is what its table says is what the data holds.
import { render, screen, within } from "@testing-library/svelte";
import { describe, expect, it } from "vitest";
import { linear } from "../src/charts/scale";
import { placeLabels } from "../src/charts/labels";
import { fakeModels, fakeScorecard } from "../src/ipc/fakeData";
import { FakeIpc } from "../src/ipc/fake";
import ChartOnApp from "./ChartOnApp.svelte";

const models = fakeModels().filter((model) => model.problem === null);
const { charts } = fakeScorecard(1, 0, "standard", models, 12);

function draw(at: number): HTMLElement {
  const data = charts[at];
  if (data === undefined) throw new Error(`no chart ${at}`);
  render(ChartOnApp, { data, ipc: new FakeIpc() });
  return screen.getByTestId("chart");
}

describe("a chart and its table", () => {
  it.each(charts.map((chart, at) => [chart.title, at] as const))("%s", (_, at) => {
    const chart = draw(at);
    const data = charts[at];
    const points = data?.series.flatMap((series) => series.points.map((point) => ({ ...point, name: series.name }))) ?? [];
    expect(points.length).toBe(models.length);
    // Drawn: each point once, at its own value.
    const drawn = within(chart).getAllByTestId("chart-point").map((point) => Number(point.dataset["y"]));
    expect([...drawn].sort()).toEqual(points.map((point) => point.y).sort());
    // Told: a row for each point, with name, value and interval.
    const rows = [...within(chart).getByTestId("chart-table").querySelectorAll("tbody tr")].map((row) =>
      [...row.children].map((cell) => cell.textContent?.trim() ?? ""),
    );
    expect(rows).toHaveLength(points.length);
    points.forEach((point, line) => {
      const row = rows[line] ?? [];
      expect(row[0]).toBe(point.name);
      const digits = (text: string | undefined): number => Number(text?.replace(/[^\d.]/g, ""));
      const value = row[data?.form === "scatter" ? 2 : 1];
      expect(digits(value)).toBeCloseTo(point.y, 0);
      if (point.lo !== null && point.hi !== null) {
        const [lo, hi] = (row.at(-1) ?? "").split("–");
        expect(digits(lo)).toBeCloseTo(point.lo, 0);
        expect(digits(hi)).toBeCloseTo(point.hi, 0);
      }
    });
  });

  it("places points by their values", () => {
    const chart = draw(0);
    const at = within(chart)
      .getAllByTestId("chart-point")
      .map((point) => ({
        value: Number(point.dataset["y"]),
        x: Number(/translate\(([\d.]+)/.exec(point.getAttribute("transform") ?? "")?.[1]),
      }))
      .sort((a, b) => a.value - b.value);
    for (let n = 2; n < at.length; n += 1) {
      const [a, b, c] = [at[n - 2], at[n - 1], at[n]];
      if (a === undefined || b === undefined || c === undefined || a.value === b.value) continue;
      expect((c.x - b.x) / (b.x - a.x)).toBeCloseTo((c.value - b.value) / (b.value - a.value), 3);
    }
  });

  it("gives a model the same colour and marker in every chart", () => {
    const looks = charts.map((data) => {
      const { container, unmount } = render(ChartOnApp, { data, ipc: new FakeIpc() });
      const found = [...container.querySelectorAll("tbody tr")].map((row) => [
        row.querySelector("th")?.textContent?.trim(),
        row.querySelector("svg")?.innerHTML,
      ]);
      unmount();
      return JSON.stringify(found);
    });
    expect(new Set(looks).size).toBe(1);
  });
});

describe("a scale", () => {
  it("holds every value between round ticks", () => {
    const scale = linear([0.223, 0.477], 0, 100, 500);
    expect(scale.min).toBe(0);
    expect(scale.max).toBeGreaterThanOrEqual(0.477);
    expect(scale.at(0)).toBe(100);
    expect(scale.ticks).toEqual([0, 0.1, 0.2, 0.30000000000000004, 0.4, 0.5]);
  });

  it("survives one value, zero, and none", () => {
    for (const values of [[5], [0], [], [Number.NaN], [-3]]) {
      const scale = linear(values, null, 0, 100);
      expect(scale.max).toBeGreaterThan(scale.min);
      expect(scale.ticks.length).toBeLessThan(20);
      expect(scale.at(scale.min)).toBe(0);
    }
  });
});

describe("labels of dots", () => {
  it("keep off each other where there is room", () => {
    const box = { left: 0, right: 600, top: 0, bottom: 300 };
    const labels = placeLabels(
      [
        { x: 100, y: 100, text: "First model" },
        { x: 104, y: 102, text: "Second model" },
        { x: 590, y: 100, text: "At the right edge" },
      ],
      box,
    );
    expect(labels[2]?.anchor).toBe("end");
    expect(labels[0]).not.toEqual(labels[1]);
  });
});
