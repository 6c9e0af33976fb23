import assert from "node:assert/strict";
import { chromium, type Browser, type BrowserContextOptions, type Page } from "playwright-core";

/** launch starts the Chromium of the machine with a fresh profile. */
export function launch(): Promise<Browser> {
  return chromium.launch({
    executablePath: process.env.CHROMIUM,
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    ],
  });
}

/** Opened is a page that notes what its console says. */
export interface Opened {
  page: Page;
  /** done closes the page and fails if it logged an error; allowed are those that the test provokes. (The tests read pixels back: Chromium says that this is slow.) */
  done(allowed?: RegExp): Promise<void>;
}

export async function open(browser: Browser, url: string, options: BrowserContextOptions = {}): Promise<Opened> {
  const context = await browser.newContext({ viewport: { width: 1440, height: 900 }, ...options });
  const page = await context.newPage();
  const errors: string[] = [];
  page.on("console", (m) => (m.type() === "error" || m.type() === "warning") && errors.push(m.text()));
  page.on("pageerror", (e) => errors.push(String(e)));
  await page.goto(url);
  return {
    page,
    async done(allowed) {
      await context.close();
      assert.deepEqual(errors.filter((e) => !allowed?.test(e) && !/willReadFrequently/.test(e)), [], "the console is quiet");
    },
  };
}

/** drawn waits until the flame graph has painted and nothing is loading any more. */
export async function drawn(page: Page): Promise<void> {
  await page.waitForFunction(() => document.querySelector<HTMLCanvasElement>("#flame")?.dataset.boxes && !document.querySelector('[aria-busy="true"]'));
}

/** settled waits until nothing is loading and the flame graph has painted or says why there is none. */
export async function settled(page: Page): Promise<void> {
  await page.waitForFunction(() => !document.querySelector('[aria-busy="true"]') && (document.querySelector<HTMLCanvasElement>("#flame")?.dataset.boxes || document.querySelector(".flame-area .nothing, .flame-area .error")));
}

/** colours counts the distinct colours of the flame graph's pixels. */
export function colours(page: Page): Promise<number> {
  return page.evaluate(() => {
    const c = document.querySelector<HTMLCanvasElement>("#flame")!;
    const d = c.getContext("2d")!.getImageData(0, 0, c.width, c.height).data;
    const seen = new Set<number>();
    for (let i = 0; i < d.length; i += 4) seen.add((d[i] << 16) | (d[i + 1] << 8) | d[i + 2]);
    return seen.size;
  });
}

/** pixel is the colour of a canvas pixel, "r,g,b". */
export function pixel(page: Page, x: number, y: number): Promise<string> {
  return page.evaluate(([x, y]) => {
    const c = document.querySelector<HTMLCanvasElement>("#flame")!;
    const k = devicePixelRatio;
    return [...c.getContext("2d")!.getImageData(x * k, y * k, 1, 1).data.slice(0, 3)].join(",");
  }, [x, y]);
}

/** token is the value of a custom property, "r,g,b". */
export function token(page: Page, name: string): Promise<string> {
  return page.evaluate((name) => {
    const hex = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)).join(",");
  }, name);
}

export const param = (page: Page, name: string) => new URL(page.url()).searchParams.get(name);

/** contrast is the worst contrast of the text that is shown with its ground, by WCAG. */
export function contrast(page: Page): Promise<{ ratio: number; text: string }> {
  return page.evaluate(() => {
    const lum = (c: string) => {
      const [r, g, b] = c.match(/[\d.]+/g)!.map(Number).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (e: Element | null): string => {
      for (; e; e = e.parentElement) {
        const c = getComputedStyle(e).backgroundColor;
        if (!/rgba\(.*, 0\)/.test(c)) return c;
      }
      return "rgb(255,255,255)";
    };
    let worst = { ratio: 99, text: "" };
    for (const e of document.querySelectorAll("td, th, a, button, h2, b, li, summary, span, label")) {
      const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent!.trim());
      if (!own || !(e as HTMLElement).offsetParent || (e as HTMLButtonElement).disabled) continue;
      const a = lum(getComputedStyle(e).color), b = lum(ground(e));
      const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (ratio < worst.ratio) worst = { ratio, text: e.textContent! };
    }
    return worst;
  });
}
