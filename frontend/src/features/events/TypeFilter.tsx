import { Button, Group, Popover } from "@mantine/core";
import { ChevronDown } from "lucide-react";
import { EVENT_TYPES } from "../../protocol/events.ts";

interface Props {
  counts: readonly [type: string, count: number][];
  hidden: ReadonlySet<string>;
  onChange: (hidden: ReadonlySet<string>) => void;
}

/** Which types are shown. Those that are not there yet are chosen as well: "None" means them too. */
export function TypeFilter({ counts, hidden, onChange }: Props) {
  const shown = counts.filter(([type]) => !hidden.has(type)).length;
  const toggle = (type: string): void => {
    const next = new Set(hidden);
    if (!next.delete(type)) next.add(type);
    onChange(next);
  };
  return (
    <Popover position="bottom-end" shadow="md" trapFocus returnFocus withinPortal>
      <Popover.Target>
        <Button variant="default" size="xs" rightSection={<ChevronDown size={13} />} data-testid="events-types" data-filtered={hidden.size > 0 || undefined}>
          {hidden.size === 0 ? "All types" : `${shown} of ${counts.length} types`}
        </Button>
      </Popover.Target>
      {/* Escape closes this; twice it would stop the agent's job. */}
      <Popover.Dropdown className="eventtypes" aria-label="Types of events" onKeyDown={(event) => event.key === "Escape" && event.preventDefault()}>
        <Group gap={6} mb={8} wrap="nowrap">
          <Button size="compact-xs" variant="default" onClick={() => onChange(new Set())} data-testid="events-types-all">
            All
          </Button>
          <Button size="compact-xs" variant="default" onClick={() => onChange(new Set([...EVENT_TYPES, ...counts.map(([type]) => type)]))} data-testid="events-types-none">
            None
          </Button>
        </Group>
        <ul>
          {counts.map(([type, count]) => (
            <li key={type}>
              <label>
                <input type="checkbox" checked={!hidden.has(type)} onChange={() => toggle(type)} data-testid="events-type" data-type={type} />
                {type}
                <span className="quiet">{count}</span>
              </label>
            </li>
          ))}
        </ul>
      </Popover.Dropdown>
    </Popover>
  );
}
