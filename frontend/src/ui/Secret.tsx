import { Alert, Code, Group } from "@mantine/core";
import type { ReactNode } from "react";
import { CopyButton } from "./CopyButton.tsx";

interface Props {
  title: string;
  /** Each with what it is. */
  parts: readonly { name: string; value: string; testid: string }[];
  onClose: () => void;
  children?: ReactNode;
}

/** What is shown once. It goes from the page when this is closed. */
export function Secret({ title, parts, onClose, children }: Props) {
  return (
    <Alert className="good" color="teal" variant="light" title={title} withCloseButton closeButtonLabel="Close" onClose={onClose} role="status">
      <dl className="secret">
        {parts.map(({ name, value, testid }) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>
              <Group gap={8} wrap="nowrap">
                <Code data-testid={testid} style={{ overflowWrap: "anywhere" }}>
                  {value}
                </Code>
                <CopyButton text={value} label={`Copy the ${name.toLowerCase()}`} />
              </Group>
            </dd>
          </div>
        ))}
      </dl>
      {children}
    </Alert>
  );
}
