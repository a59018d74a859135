import { sayError } from "../../net/http.ts";
import { api, client, queries } from "../../wiring.ts";

/** Nothing of who was signed in stays on the page. */
export function signOut(everywhere = false): void {
  (everywhere ? api.signOutEverywhere() : api.signOut()).then(
    () => {
      client.reset();
      queries.clear();
      window.location.hash = "";
      window.location.reload();
    },
    (error: unknown) => client.say(sayError(error)),
  );
}
