/** copy puts text on the clipboard; where the browser refuses (a page without TLS) it says so. */
export async function copy(text: string, done: string): Promise<string> {
  try {
    await navigator.clipboard.writeText(text);
    return done;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const ok = document.execCommand("copy");
    area.remove();
    return ok ? done : "The browser does not allow copying here: select the text instead.";
  }
}
