import { render } from "preact";
import "../theme.css";
import "../page.css";
import "./fleet.css";
import { startTheme } from "../theme";
import { FleetPage } from "./page";
import { start } from "./state";

startTheme();
start();
render(<FleetPage />, document.getElementById("app")!);
