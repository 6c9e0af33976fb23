import { effect, signal } from "@preact/signals";
import { buildPalette, type Palette } from "./flame/colour";

export type Theme = "system" | "light" | "dark";

const key = "sonde-theme";

function saved(): Theme {
  const t = localStorage.getItem(key);
  return t === "light" || t === "dark" ? t : "system";
}

export const theme = signal<Theme>(saved());

/** token reads a custom property in the theme that is in force. */
export function token(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export const palette = signal<Palette | null>(null);

/** isDark says which theme is in force. */
export function isDark(): boolean {
  return theme.value === "dark" || (theme.value === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
}

/** nextTheme goes to the other theme; where that is what the system wants, the system decides again. */
export function nextTheme(): void {
  const want: Theme = isDark() ? "light" : "dark";
  const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  theme.value = want === system ? "system" : want;
}

/** startTheme applies the theme, follows the system's and remembers a choice. */
export function startTheme(): void {
  const apply = () => {
    document.documentElement.dataset.theme = isDark() ? "dark" : "light";
    palette.value = buildPalette(token);
  };
  effect(() => {
    if (theme.value === "system") localStorage.removeItem(key);
    else localStorage.setItem(key, theme.value);
    apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
}
