import { Button, Group, Modal, Stack, Text } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Fault } from "./Fault.tsx";
import { goOn } from "./goOn.ts";

interface Props {
  title: string;
  children: ReactNode;
  /** What the button says. */
  act: string;
  doing: () => Promise<unknown>;
  onClose: () => void;
  /** Where the keyboard goes on when what was asked about is gone; else from the page's content. */
  next?: () => HTMLElement | null;
}

/** Asked before what cannot be taken back. */
export function Confirm({ title, children, act, doing, onClose, next }: Props) {
  const working = useMutation({ mutationFn: doing, onSuccess: () => (onClose(), goOn(next)) });
  return (
    <Modal opened onClose={onClose} title={title} centered closeButtonProps={{ "aria-label": "Close" }}>
      <Stack>
        <Text>{children}</Text>
        <Fault error={working.error} />
        <Group justify="flex-end">
          <Button variant="default" onClick={onClose} data-autofocus>
            Keep
          </Button>
          <Button color="red" loading={working.isPending} onClick={() => working.mutate()} data-testid="confirm">
            {act}
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}
