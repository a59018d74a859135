import { Alert, Button } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { HttpError, sayError } from "../net/http.ts";

/** What went wrong, in the server's words. A refusal may mean that one's role is another now: all is read again then. */
export function Fault({ error, again }: { error: unknown; again?: () => void }) {
  const queries = useQueryClient();
  if (error === null || error === undefined) return null;
  const refused = error instanceof HttpError && error.status === 403;
  const act = refused ? () => void queries.invalidateQueries() : again;
  return (
    <Alert color="red" variant="light" role="alert">
      {sayError(error)}
      {refused ? " Your role may have been changed meanwhile." : ""}
      {act ? (
        <Button mt={8} display="block" size="compact-xs" variant="default" onClick={act} data-testid="try-again">
          {refused ? "See what I may do now" : "Try again"}
        </Button>
      ) : null}
    </Alert>
  );
}
