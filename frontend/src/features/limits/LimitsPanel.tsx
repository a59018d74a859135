import { Alert, Drawer, Group, Loader, Progress, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { TriangleAlert } from "lucide-react";
import type { Limit, Session } from "../../net/api.ts";
import { sayError } from "../../net/http.ts";
import { api } from "../../wiring.ts";
import { amount, enforcedWords, hitsWords, nameWords, share } from "./words.ts";

/** While the panel is open, and its tab is seen, it is asked for again at this pace. */
const REFRESH_MS = 3_000;
/** Percent from which a bar warns, and from which it is as good as full. */
const HIGH = 80;
const FULL = 95;

interface Props {
  id: string;
  state: Session["state"] | undefined;
  onClose: () => void;
}

/** What a session uses of what it may. */
export function LimitsPanel({ id, state, onClose }: Props) {
  const { data, error, isPending } = useQuery({
    queryKey: ["limits", id],
    queryFn: ({ signal }) => api.limits(id, signal),
    refetchInterval: REFRESH_MS,
  });
  const limits = data?.limits ?? [];
  const idle = limits.length > 0 && limits.every((one) => one.used === null);
  return (
    <Drawer opened onClose={onClose} position="right" title="Limits" size="md" closeButtonProps={{ "aria-label": "Close the limits" }} data-testid="limits-panel">
      {isPending ? (
        <Group gap={8} p={8} fz="sm" c="dimmed" role="status">
          <Loader size={14} /> Reading…
        </Group>
      ) : null}
      {error ? (
        <Alert color="red" variant="light" role="alert" mb="sm" data-testid="limits-error">
          {sayError(error)} {data ? "This is what was known before." : ""}
        </Alert>
      ) : null}
      {idle ? (
        <Text fz="sm" c="dimmed" mb="xs" data-testid="limits-idle">
          {state === "lost" ? "This session was lost. These limits were its own." : "Nothing of this session runs now. These limits hold when it does."}
        </Text>
      ) : null}
      {data && limits.length === 0 ? (
        <Text fz="sm" c="dimmed" p={8}>
          This session has no limits.
        </Text>
      ) : null}
      <ul className="limits" aria-label="Limits of the session">
        {limits.map((one) => (
          <Row key={one.name} one={one} />
        ))}
      </ul>
    </Drawer>
  );
}

function Row({ one }: { one: Limit }) {
  const { label, hint } = nameWords(one.name);
  const words = amount(one);
  const percent = share(one);
  const hits = hitsWords(one);
  return (
    <li data-testid="limit" data-name={one.name} data-enforced={one.enforced} data-hits={one.hits}>
      <div className="line">
        <span className="name">
          {label} {hint ? <span className="quiet">{hint}</span> : null}
        </span>
        <span className="amount" data-testid="limit-amount">
          {words}
        </span>
      </div>
      {percent === undefined ? null : (
        <Progress.Root size={6} role="progressbar" aria-label={label} aria-valuemin={0} aria-valuemax={100} aria-valuenow={percent} aria-valuetext={words}>
          <Progress.Section withAria={false} value={percent} color={percent >= FULL ? "red" : percent >= HIGH ? "orange" : "helm"} />
        </Progress.Root>
      )}
      <div className="line quiet">
        <span data-weak={one.enforced === "none" ? true : undefined}>{enforcedWords(one.enforced)}</span>
        {hits ? (
          <span className="hits" data-loud={one.name !== "cpu" ? true : undefined} data-testid="limit-hits">
            {one.name === "cpu" ? null : <TriangleAlert size={12} aria-hidden="true" />} {hits}
          </span>
        ) : null}
      </div>
    </li>
  );
}
