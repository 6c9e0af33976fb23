import assert from "node:assert/strict";
import { test } from "node:test";
import { fitName, matcher, splitName } from "../../src/names";

const names: [string, string, string, string][] = [
  ["main.main", "", "main.", "main"],
  ["net/http.(*conn).serve", "net/", "http.", "(*conn).serve"],
  ["github.com/prometheus/prometheus/tsdb.(*Head).Append", "github.com/prometheus/prometheus/", "tsdb.", "(*Head).Append"],
  ["gopkg.in/yaml%2ev3.Unmarshal", "gopkg.in/", "yaml%2ev3.", "Unmarshal"],
  ["slices.SortFunc[go.shape.[]github.com/x/y.T,go.shape.struct {}]", "", "slices.", "SortFunc[go.shape.[]github.com/x/y.T,go.shape.struct {}]"],
  ["a/b.(*Map[a/c.K,a/d.V]).Get", "a/", "b.", "(*Map[a/c.K,a/d.V]).Get"],
  ["memeqbody", "", "", "memeqbody"],
  ["(other)", "", "", "(other)"],
  ["", "", "", ""],
];

test("a Go name has three parts that make it up again", () => {
  for (const [name, path, pkg, func] of names) {
    assert.deepEqual(splitName(name), { path, pkg, func });
    assert.equal(path + pkg + func, name);
  }
});

test("names are shortened from the left and never longer than asked", () => {
  for (const [name] of names) {
    for (let n = 0; n < 80; n++) {
      const [grey, rest] = fitName(name, n);
      assert.ok((grey + rest).length <= Math.max(n, 0), `${name} to ${n}: ${grey}${rest}`);
      if (n >= name.length && n >= 3) assert.equal(grey + rest, name);
    }
  }
  const name = "github.com/prometheus/prometheus/tsdb.(*Head).Append";
  assert.deepEqual(fitName(name, 30), ["…rometheus/", "tsdb.(*Head).Append"]);
  assert.deepEqual(fitName(name, 19), ["", "tsdb.(*Head).Append"]);
  assert.deepEqual(fitName(name, 14), ["", "(*Head).Append"]);
  assert.deepEqual(fitName(name, 8), ["", "Append"]);
  assert.deepEqual(fitName(name, 12), ["", "…ead).Append"]);
  assert.deepEqual(fitName(name, 4), ["", "App…"]);
  assert.deepEqual(fitName("a/cart.recommend.func1", 8), ["", "recomme…"]);
  assert.deepEqual(fitName("reflect.Value.SetLen", 8), ["", "SetLen"]);
  assert.deepEqual(fitName(name, 2), ["", ""]);
  assert.deepEqual(fitName("slices.Sort[...]", 4), ["", "Sort"]);
});

test("search is part of a name in any case, or a regular expression between slashes", () => {
  assert.equal(matcher("  "), null);
  assert.equal(matcher("(*CONN)")!("net/http.(*conn).serve"), true);
  assert.equal(matcher("/^net\\/http\\./")!("net/http.(*conn).serve"), true);
  assert.equal(matcher("/^http/")!("net/http.(*conn).serve"), false);
  assert.equal(matcher("/CONN/i")!("net/http.(*conn).serve"), true);
  assert.equal(matcher("/(/")!("a(b"), false, "a broken expression matches nothing and does not throw");
});
