import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { buildPalette, contrast, diffStep, diffSteps, parseHex, theMatchFill, theSliverFill, dim } from "../../src/flame/colour";

const css = readFileSync(join(process.env.SONDE_WEB!, "src/theme.css"), "utf8");

function tokens(selector: string): Map<string, string> {
  const start = css.indexOf(`${selector} {`);
  assert.ok(start >= 0, selector);
  const block = css.slice(start, css.indexOf("\n}", start));
  return new Map([...block.matchAll(/(--[\w-]+):\s*([^;]+);/g)].map((m) => [m[1], m[2].trim()]));
}

const light = tokens(":root");
const dark = new Map([...light, ...tokens(':root[data-theme="dark"]')]);

for (const [theme, t] of [["light", light], ["dark", dark]] as const) {
  const colour = (name: string) => parseHex(t.get(name) ?? assert.fail(`no token ${name}`));
  const atLeast = (a: string, b: string, min: number) => {
    const c = contrast(colour(a), colour(b));
    assert.ok(c >= min, `${theme}: ${a} on ${b} is ${c.toFixed(2)}, less than ${min}`);
  };

  test(`${theme}: text is readable on every ground it stands on (AA, 4.5)`, () => {
    for (const bg of ["--bg", "--bg-2", "--bg-3"]) {
      atLeast("--text", bg, 4.5);
      atLeast("--text-2", bg, 4.5);
      atLeast("--accent", bg, 4.5);
    }
    for (const bg of ["--bg", "--bg-2"]) atLeast("--error", bg, 4.5);
    atLeast("--on-accent", "--accent", 4.5);
  });

  test(`${theme}: what marks controls and lines of the chart can be seen (AA, 3)`, () => {
    atLeast("--line-2", "--bg", 3);
    atLeast("--accent", "--bg", 3);
    for (let i = 1; i <= 10; i++) atLeast(`--s${i}`, "--bg", 3);
  });

  test(`${theme}: text is readable on every fill of the flame graph, shades, diff steps and dimmed ones included`, () => {
    const p = buildPalette((name) => t.get(name) ?? assert.fail(`no token ${name}`));
    p.rgb.forEach((fill, i) => {
      const match = i === theMatchFill;
      if (i === theSliverFill || i === dim(theSliverFill) || i === dim(theMatchFill)) return; // they never hold text
      const text = contrast(parseHex(match ? p.onMatch : p.text), fill);
      assert.ok(text >= 4.5, `${theme}: text on fill ${i} (${fill}) is ${text.toFixed(2)}`);
      if (!match) {
        const grey = contrast(parseHex(p.grey), fill);
        assert.ok(grey >= 4.5, `${theme}: package path on fill ${i} (${fill}) is ${grey.toFixed(2)}`);
      }
    });
  });

  test(`${theme}: less and more differ for every kind of colour blindness`, () => {
    // Viénot, Brettel and Mollon 1999, on linear RGB: protanopia and deuteranopia.
    const matrices = [
      [0.11238, 0.88762, 0, 0.11238, 0.88762, 0, 0.00401, -0.00401, 1],
      [0.29275, 0.70725, 0, 0.29275, 0.70725, 0, -0.02234, 0.02234, 1],
    ];
    const linear = (name: string) => colour(name).map((v) => (v / 255) ** 2.2);
    for (const m of matrices) {
      const seen = (name: string) => {
        const [r, g, b] = linear(name);
        return [0, 3, 6].map((k) => 255 * Math.max(0, m[k] * r + m[k + 1] * g + m[k + 2] * b) ** (1 / 2.2));
      };
      for (const [a, b, min] of [["--diff-less", "--diff-more", 60], ["--diff-less", "--diff-same", 25], ["--diff-more", "--diff-same", 25]] as const) {
        const d = Math.hypot(...seen(a).map((v, i) => v - seen(b)[i]));
        assert.ok(d >= min, `${theme}: ${a} and ${b} are ${d.toFixed(0)} apart`);
      }
    }
  });
}

test("both themes have the same tokens where the theme decides", () => {
  const decided = [...tokens(':root[data-theme="dark"]').keys()];
  for (const name of light.keys()) {
    if (/^#/.test(light.get(name)!)) assert.ok(decided.includes(name), `${name} has no dark value`);
  }
});

test("the diff scale: full at twice and half, none within noise", () => {
  for (const [now, base, want] of [[200, 100, diffSteps], [100, 200, -diffSteps], [0, 50, -diffSteps], [50, 0, diffSteps], [100, 100, 0], [100.5, 100, 0], [0.5, 0, 0], [125, 100, 2], [100, 125, -2]] as const) {
    assert.equal(diffStep(now, base, 1000), want, `${now} against ${base}`);
  }
});
