import { render } from "preact";
import "uplot/dist/uPlot.min.css";
import "./theme.css";
import "./page.css";
import { Page } from "./page";
import { start } from "./state";
import { startTheme } from "./theme";

startTheme();
start();
render(<Page />, document.getElementById("app")!);
