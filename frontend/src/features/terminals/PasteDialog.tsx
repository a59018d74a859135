import { Button, Group, Modal, Stack, Text, Textarea } from "@mantine/core";
import { useState } from "react";
import { ExactBox } from "../../ui/Exact.tsx";
import { bytes, plural } from "../../ui/words.ts";
import { lines } from "./paste.ts";

/** Enough to see what it is. */
const SHOWN_MAX = 4_000;

interface Props {
  /** Nothing: the browser did not let us read the clipboard, and somebody pastes it here. */
  text: string;
  /** The program knows a paste from keys. */
  bracketed: boolean;
  onPaste: (text: string) => void;
  onClose: () => void;
}

export function PasteDialog({ text: given, bracketed, onPaste, onClose }: Props) {
  const [typed, type] = useState("");
  const text = given === "" ? typed : given;
  return (
    <Modal opened onClose={onClose} title={given === "" ? "Paste into the terminal" : `Paste ${plural(lines(text), "line")}?`} centered size="lg" closeButtonProps={{ "aria-label": "Close" }} data-testid="terminal-paste-confirm">
      <Stack>
        {given === "" ? (
          <Textarea label="Text to paste" autosize minRows={3} maxRows={12} value={typed} onChange={(event) => type(event.currentTarget.value)} data-autofocus data-testid="terminal-paste-text" />
        ) : (
          <>
            <ExactBox text={text.slice(0, SHOWN_MAX)} limited label="What is pasted" />
            {text.length > SHOWN_MAX ? <Text fz="sm" c="dimmed">… and more: {bytes(new Blob([text]).size)} in all.</Text> : null}
          </>
        )}
        <Text fz="sm">
          {bracketed ? "The program in the shell is told that this text is pasted. Most shells then wait for Enter before they run it." : "Each line goes to the program in the shell as if you had typed it. A shell runs it at once."}
        </Text>
        <Group justify="flex-end">
          <Button variant="default" onClick={onClose}>
            Cancel
          </Button>
          <Button onClick={() => onPaste(text)} disabled={text === ""} {...(given === "" ? {} : { "data-autofocus": true })} data-testid="terminal-paste-do">
            Paste
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}
