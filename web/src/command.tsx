import { useState } from "preact/hooks";
import { copy } from "./copy";

/** Command is one line or block to copy. */
export function Command(p: { text: string; what: string }) {
  const [said, setSaid] = useState("copy");
  return (
    <div class="command">
      <pre class="mono">{p.text}</pre>
      <button aria-label={`Copy ${p.what}`} onClick={() => void copy(p.text, "copied").then(setSaid)}>{said}</button>
    </div>
  );
}

/** agentSnippet builds the agent into a program. */
export const agentSnippet = `import "github.com/sonde-io/sonde/agent"

func main() {
	defer agent.Start(agent.Config{Service: "cart"}).Close()
	// your program
}`;
