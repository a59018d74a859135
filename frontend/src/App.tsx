import { Center, Loader } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useEffect } from "react";
import { SignIn } from "./features/signin/SignIn.tsx";
import type { Shown } from "./features/signin/ticket.ts";
import { Visitor } from "./features/sharing/Visitor.tsx";
import { Shell } from "./features/sessions/Shell.tsx";
import { useMe } from "./model/hooks.ts";
import { go } from "./model/route.ts";
import { HttpError } from "./net/http.ts";
import { api, client } from "./wiring.ts";

/** One secret is posted once, however often React mounts the page. */
let posted: Promise<unknown> | undefined;

/** Whoever is signed in stays so, and comes to the session as themselves. */
const follow = (link: string): Promise<void> => api.followLink(link).then(({ session }) => go({ page: "session", id: session }));

export function App({ shown }: { shown: Shown | undefined }) {
  const { mutate: signIn, ...signing } = useMutation({
    mutationFn: ({ kind, secret }: Shown) => (posted ??= kind === "link" ? follow(secret) : api.signIn(secret)),
  });
  // A question that is already on its way would be answered as nobody: ask after the secret is through.
  const settled = shown === undefined || signing.isSuccess || signing.isError;
  const me = useMe(settled);
  useEffect(() => {
    if (shown !== undefined) signIn(shown);
  }, [shown, signIn]);

  const known = me.data !== undefined && !(me.error instanceof HttpError && me.error.status === 401);
  useEffect(() => {
    if (!known) return;
    client.socket.start();
    return () => client.socket.stop();
  }, [known]);

  if (known) return me.data.principal.session ? <Visitor me={me.data} id={me.data.principal.session} /> : <Shell me={me.data} />;
  const busy = !settled || (signing.isSuccess && me.isFetching);
  if (me.isPending && !busy)
    return (
      <Center h="100dvh">
        <Loader aria-label="Loading" />
      </Center>
    );
  const unreachable = me.error instanceof HttpError && me.error.status === 401 ? undefined : me.error;
  return <SignIn busy={busy} link={shown?.kind === "link"} error={signing.error ?? unreachable} onRetry={() => void me.refetch()} />;
}
