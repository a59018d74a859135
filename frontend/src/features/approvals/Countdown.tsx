import { Text } from "@mantine/core";
import { useEffect, useState } from "react";

/** Time left to decide; afterwards the server denies. */
export function Countdown({ at }: { at: string }) {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  const left = Math.max(0, Math.round((Date.parse(at) - now) / 1000));
  if (Number.isNaN(left)) return null;
  const words = left === 0 ? "expiring" : `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
  return (
    <Text fz="sm" c={left < 30 ? "red" : "dimmed"} role="timer" aria-label="Time left" style={{ fontVariantNumeric: "tabular-nums" }}>
      {words}
    </Text>
  );
}
