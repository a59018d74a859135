import { NumberInput, Stack, Switch } from "@mantine/core";
import { FONT_MAX, FONT_MIN, prefer, usePrefs } from "./prefs.ts";

/** Of this browser, for every session. */
export function TerminalPrefs() {
  const { clipboard, fontSize, reader } = usePrefs();
  return (
    <Stack gap="sm">
      <NumberInput label="Size of the text" size="xs" maw={140} min={FONT_MIN} max={FONT_MAX} clampBehavior="strict" allowDecimal={false} suffix=" px" value={fontSize} onChange={(value) => typeof value === "number" && prefer({ fontSize: value })} data-testid="terminal-font" />
      <Switch label="For screen readers" description="What a shell writes is read aloud. It costs some speed." checked={reader} onChange={(event) => prefer({ reader: event.currentTarget.checked })} data-testid="terminal-prefer-reader" />
      <Switch label="Programs may write to the clipboard" description="A program in a shell then replaces what you have copied, without asking. None can read it." checked={clipboard} onChange={(event) => prefer({ clipboard: event.currentTarget.checked })} data-testid="terminal-prefer-clipboard" />
    </Stack>
  );
}
