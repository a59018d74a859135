import { Text } from "@mantine/core";
import { ROLES } from "./words.ts";

/** What each role may do; the reader's own is marked. */
export function Roles({ own }: { own: string | undefined }) {
  return (
    <>
      <dl className="roles">
        {ROLES.map(({ value, label, may }) => (
          <div key={value} data-testid="role-words" data-own={value === own}>
            <dt>
              {label}
              {value === own ? <span className="quiet"> (you)</span> : null}
            </dt>
            <dd>{may}</dd>
          </div>
        ))}
      </dl>
      <Text fz="sm" c="dimmed">
        In a single session its owner can let others do more: by a grant to a member, or by a share link. A key may do what its scopes and the role of its account both allow.
      </Text>
    </>
  );
}
