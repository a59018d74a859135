import { Button, Code, Modal, Text } from "@mantine/core";
import { useState } from "react";
import type { Secret } from "../../net/secrets.ts";
import { Confirm } from "../../ui/Confirm.tsx";
import { Exact } from "../../ui/Exact.tsx";
import { api } from "../../wiring.ts";
import { SecretForm } from "./SecretForm.tsx";
import { givenWords, placeOf, sinceWords, whereWords } from "./words.ts";

interface Props {
  items: readonly Secret[];
  /** Of this session; left out: of the reader. */
  session?: string;
  /** Whose account it is, where that is not the reader's. */
  owner?: string | undefined;
  files: boolean;
  may: (one: Secret) => boolean;
  onAsk?: (asking: boolean) => void;
  onReplaced: (one: Secret) => Promise<void>;
  onRemoved: (one: Secret) => Promise<void>;
  /** Where the keyboard goes on when a row is gone. */
  next: () => HTMLElement | null;
}

/** Which there are, never what they are. */
export function SecretList({ items, session, owner, files, may, onAsk, onReplaced, onRemoved, next }: Props) {
  const [asked, setAsked] = useState<{ what: "replace" | "remove"; one: Secret }>();
  const ask = (what: typeof asked): void => (setAsked(what), onAsk?.(what !== undefined));
  return (
    <>
      <ul className="entries" aria-label="Secrets">
        {items.map((one) => (
          <li key={`${one.where} ${Object.values(one.project ?? {}).join()} ${one.name}`} className="stack" data-testid="secret-row" data-name={one.name} data-where={one.where}>
            <div className="what">
              <Code>
                <Exact text={one.name} />
              </Code>
              <Text fz="xs">
                {givenWords(one)}
                {one.file ? <> (its path is in <code>{one.name}_FILE</code>)</> : null}; {whereWords(one, owner)}
              </Text>
              <Text fz="xs" c="dimmed">
                {sinceWords(one)}
              </Text>
              {one.masked ? null : <Text fz="xs" className="warned">So short that it is not masked where it is written.</Text>}
            </div>
            {may(one) ? (
              <div className="acts">
                <Button size="compact-xs" variant="default" onClick={() => ask({ what: "replace", one })} aria-label={`Replace ${one.name}, ${whereWords(one)}`} data-testid="secret-replace">
                  Replace
                </Button>
                <Button size="compact-xs" variant="subtle" color="red" onClick={() => ask({ what: "remove", one })} aria-label={`Remove ${one.name}, ${whereWords(one)}`} data-testid="secret-remove">
                  Remove
                </Button>
              </div>
            ) : null}
          </li>
        ))}
      </ul>
      {asked?.what === "remove" ? (
        <Confirm title={`Remove ${asked.one.name}?`} act="Remove" onClose={() => ask(undefined)} doing={() => api.removeSecret(placeOf(asked.one, session), asked.one.name).then(() => onRemoved(asked.one))} next={next}>
          Shells that are opened and agents that are started from then on do not have it; those that run keep it. Its value cannot be brought back.
        </Confirm>
      ) : null}
      {asked?.what === "replace" ? (
        <Modal opened onClose={() => ask(undefined)} title={`Replace ${asked.one.name}`} centered closeButtonProps={{ "aria-label": "Close" }}>
          <Text fz="sm" mb="sm">
            It counts {whereWords(asked.one)}. Shells and agents that run keep the value that they have.
          </Text>
          <SecretForm place={placeOf(asked.one, session)} replacing={asked.one} items={items} files={files} onSet={async (made) => (await onReplaced(made), ask(undefined))} />
        </Modal>
      ) : null}
    </>
  );
}
