// Figures as people read them.
import { describe, expect, it } from "vitest";
import { bytes, count, duration, forecast, measured, params, percent, points, range, significant } from "../src/format";

const plain = (text: string): string => text.replaceAll("\u202f", " ");

describe("figures", () => {
  it.each([
    [significant(152.4), "152"],
    [significant(99.96), "100"],
    [significant(53.71), "53.7"],
    [significant(9.999), "10.0"],
    [significant(1.523), "1.52"],
    [significant(14042), "14,042"],
    [count(1234567), "1,234,567"],
    [bytes(98_300_000), "98.3 MB"],
    [bytes(2_200_000_000), "2.20 GB"],
    [bytes(0), "0 bytes"],
    [params(134_515_008), "135M"],
    [params(1_235_814_400), "1.24B"],
    [params(999_900_000), "1.00B"],
    [duration(0.031), "31 ms"],
    [duration(4.21), "4.2 s"],
    [duration(59.7), "1 min"],
    [duration(95), "1 min 35 s"],
    [duration(7000), "1 h 57 min"],
    [duration(7170), "2 h"],
    [forecast(33), "about 35 s"],
    [forecast(95), "about 2 min"],
    [forecast(9000), "about 2.5 h"],
    [percent(0.31), "31.0 %"],
    [points(0.0904), "± 9 points"],
    [points(0.0074), "± 0.7 points"],
    [measured(0.1831, "s"), "183 ms"],
    [measured(152.4, "tokens/s"), "152 tok/s"],
    [range(0.31, 0.222, 0.398, "accuracy"), "22.2–39.8"],
    [range(1.7e9, 1.6e9, 1.8e9, "bytes"), "1.60–1.80"],
    [range(0.31, null, null, "accuracy"), ""],
  ])("%s", (shown, wanted) => {
    expect(plain(shown)).toBe(wanted);
  });
});
