import { Button, FileButton, Group, Text, TextInput } from "@mantine/core";
import { useEffect, useRef, useState } from "react";
import type { ClipboardEvent, DragEvent } from "react";
import { plain } from "../../protocol/reveal.ts";
import { plural } from "../../ui/words.ts";
import { hasLines, linesIn, tooLong } from "./words.ts";

interface Props {
  label: string;
  /** Of a dialog: where the keyboard begins. */
  first: boolean;
  fault: string | undefined;
  /** What a field of one line cannot hold; nothing: what is in the field counts. */
  onHold: (text: string | undefined) => void;
  onChange: () => void;
  onFault: (words: string) => void;
}

/**
 * A value that is typed, pasted or read from a file, and never shown. One line is in a password field that React does not
 * know the content of, since it writes what it knows into the document; several are in no field at all: a browser tells
 * a screen reader what is in one of several lines, however it is drawn.
 */
export function ValueField({ label, first, fault, onHold, onChange, onFault }: Props) {
  const [held, setHeld] = useState<string>();
  const field = useRef<HTMLInputElement>(null);
  const begun = useRef(false);
  useEffect(() => {
    if (begun.current) field.current?.focus();
    begun.current = true;
  }, [held]);
  const hold = (text: string | undefined, from: string): void => {
    onHold(text);
    setHeld(text === undefined ? undefined : `${plural(linesIn(text), "line")} ${from}, not shown`);
    onChange();
  };
  /** A field of one line would drop the line breaks and say nothing. */
  const take = (event: ClipboardEvent<HTMLInputElement> | DragEvent<HTMLInputElement>, text: string): void => {
    if (!hasLines(text)) return;
    event.preventDefault();
    hold(text.replaceAll("\r\n", "\n"), "pasted");
  };
  const read = async (file: File | null): Promise<void> => {
    if (!file) return;
    const words = tooLong(file.size);
    if (words !== undefined) return onFault(words);
    const bytes = await file.arrayBuffer().catch(() => undefined);
    if (!bytes) return onFault("The file cannot be read");
    try {
      hold(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes), `from ${plain(file.name)}`);
    } catch {
      onFault("It is no text in UTF-8");
    }
  };
  const common = { ref: field, size: "xs", label, error: fault, errorProps: { role: "alert" }, "data-testid": "secret-value" } as const;
  return (
    <div>
      {held === undefined ? (
        <TextInput
          {...common}
          key="typed"
          {...(first ? { "data-autofocus": true } : {})}
          name="value"
          type="password"
          // A browser offers to keep what was typed into such a field, also with "off"; what is good for once it does not.
          autoComplete="one-time-code"
          data-1p-ignore
          data-bwignore
          data-lpignore="true"
          onChange={onChange}
          onPaste={(event) => take(event, event.clipboardData.getData("text"))}
          onDrop={(event) => take(event, event.dataTransfer.getData("text"))}
        />
      ) : (
        <TextInput {...common} key="held" readOnly value={held} />
      )}
      <Group mt={4} gap={8} mih={22}>
        {held === undefined ? (
          <>
            <FileButton onChange={(file) => void read(file)} inputProps={{ "aria-label": `${label} from a file` }}>
              {(props) => (
                <Button {...props} size="compact-xs" variant="default" data-testid="secret-file">
                  From a file…
                </Button>
              )}
            </FileButton>
            <Text fz="xs" c="dimmed" span>
              or paste lines
            </Text>
          </>
        ) : (
          <Button size="compact-xs" variant="default" onClick={() => hold(undefined, "")} data-testid="secret-clear">
            Clear
          </Button>
        )}
      </Group>
    </div>
  );
}
