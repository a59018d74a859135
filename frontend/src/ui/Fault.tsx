import { Alert, Button } from "@mantine/core";
import { sayError } from "../net/http.ts";

/** What went wrong, in the server's words. */
export function Fault({ error, again }: { error: unknown; again?: () => void }) {
  if (error === null || error === undefined) return null;
  return (
    <Alert color="red" variant="light" role="alert">
      {sayError(error)}
      {again ? (
        <Button mt={8} display="block" size="compact-xs" variant="default" onClick={again} data-testid="try-again">
          Try again
        </Button>
      ) : null}
    </Alert>
  );
}
