import { KEYS } from "./keys.ts";
import type { Bar, BarKey } from "./keys.ts";

/** For a phone, whose keyboard has none of these. The terminal keeps the focus, so that the keyboard stays. */
export function KeysBar({ held, onPress }: { held: Bar; onPress: (key: BarKey) => void }) {
  return (
    <div className="terminalkeys" role="toolbar" aria-label="Keys" data-testid="terminal-keys">
      {KEYS.map((key) => (
        <button
          key={key.label} type="button" aria-label={key.name} data-testid="terminal-key" data-key={key.label}
          {...("holds" in key ? { "aria-pressed": held[key.holds] } : {})}
          onPointerDown={(event) => event.preventDefault()}
          onClick={() => onPress(key)}
        >
          {key.label}
        </button>
      ))}
    </div>
  );
}
