import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSelector, formatSelector, serviceOf, withLabel, withService } from "../../src/selector";
import { defaultView, formatView, isDiff, parseView, previousRange, type View } from "../../src/url";

test("the default view is the bare address", () => {
  assert.equal(formatView(defaultView), "");
  assert.deepEqual(parseView(""), defaultView);
});

test("every view survives the address", () => {
  const views: Partial<View>[] = [
    { query: '{service_name="cart",service_version=~"v1.*"}', type: "heap:inuse_space" },
    { from: "now-5m", to: "now", live: true, zone: "local" },
    { from: "2026-11-21T08:48:00Z", to: "2026-11-21T08:51:00Z", baseFrom: "2026-11-21T08:45:00Z", baseTo: "2026-11-21T08:47:30Z", baseQuery: "cart", normalize: "share" },
    { q: "a&b=c #? +%", fn: "a/b.(*T[...]).f", only: "größe.Ü", zoom: "12-9f3ab2c1" },
    { sample: '{account="A",trace_id=~"00.*"}', focus: "encoding/(json|xml)", ignore: "^runtime", frames: "line" },
    { baseFrom: "now-2h", baseTo: "now-1h", normalize: "cpu", sort: "sure" },
    { by: "", layout: "flame", chart: "table", sort: "total", asc: true },
    { by: "service_name,host_name", chart: "lines", sort: "delta" },
  ];
  for (const patch of views) {
    const v = { ...defaultView, ...patch };
    assert.deepEqual(parseView(formatView(v)), v);
  }
});

test("nonsense in the address is the default, not an error", () => {
  const v = parseView("?layout=spiral&chart=pie&sort=colour&tz=mars&norm=7&frames=file&from=&live=yes&unknown=1");
  assert.deepEqual(v, defaultView);
});

test("an older link's way to say how sides are compared is read", () => {
  assert.equal(parseView("?norm=share").normalize, "share");
  assert.equal(parseView("?norm=rate").normalize, "");
});

test("a diff has both ends of its baseline", () => {
  assert.equal(isDiff(parseView("?base_from=now-2h&base_to=now-1h")), true);
  assert.equal(isDiff(parseView("?base_from=now-2h")), false);
  assert.deepEqual(previousRange(100, 160), [40, 100]);
});

test("links stay readable", () => {
  assert.equal(formatView({ ...defaultView, from: "2026-11-21T08:48:00Z", type: "cpu:cpu" }), "?type=cpu:cpu&from=2026-11-21T08:48:00Z");
});

test("selectors are read and written back", () => {
  for (const s of ['{service_name="cart"}', '{a="b",c=~"d.*",e!="f",g!~"h"}', '{a="quote \\" back \\\\ line \\n"}', ""]) {
    assert.equal(formatSelector(parseSelector(s)!), s);
  }
  assert.equal(formatSelector(parseSelector("cart")!), '{service_name="cart"}');
  assert.deepEqual(parseSelector('{ a = "b" , }'), [{ name: "a", op: "=", value: "b" }]);
  for (const bad of ["{", "{a}", "{a=b}", '{a="b"', "a b", '{a=="b"}', '{a="b" c="d"}']) assert.equal(parseSelector(bad), null, bad);
});

test("the service picker changes the service and nothing else", () => {
  assert.equal(serviceOf("cart"), "cart");
  assert.equal(serviceOf('{x="y",service_name="cart"}'), "cart");
  assert.equal(serviceOf('{service_name=~"c.*"}'), "");
  assert.equal(withService('{x="y",service_name="cart"}', "pay"), '{service_name="pay",x="y"}');
  assert.equal(withService('{service_name="cart",x="y"}', ""), '{x="y"}');
  assert.equal(withLabel("cart", "host_name", "n1"), '{service_name="cart",host_name="n1"}');
});
