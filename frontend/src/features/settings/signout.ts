import { sayError } from "../../net/http.ts";
import { remember } from "../terminals/opened.ts";
import { api, client, queries } from "../../wiring.ts";

/** Nothing of who was signed in stays on the page. */
export function signOut(everywhere = false): void {
  (everywhere ? api.signOutEverywhere() : api.signOut()).then(
    () => {
      client.reset();
      queries.clear();
      remember(undefined);
      window.location.hash = "";
      window.location.reload();
    },
    (error: unknown) => client.say(sayError(error)),
  );
}
