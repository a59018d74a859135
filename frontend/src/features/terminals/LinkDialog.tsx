import { Button, Group, Modal, Stack, Text } from "@mantine/core";
import { ExactBox } from "../../ui/Exact.tsx";

/** A link of a terminal can show one address and lead to another: it is opened when the real one was seen. */
export function LinkDialog({ address, onClose }: { address: string; onClose: () => void }) {
  return (
    <Modal opened onClose={onClose} title="Open this address?" centered closeButtonProps={{ "aria-label": "Close" }} data-testid="terminal-link">
      <Stack>
        <ExactBox text={address} limited label="Address" />
        <Text fz="sm">It stands in the output of a program. The page there does not learn where you come from.</Text>
        <Group justify="flex-end">
          <Button variant="default" onClick={onClose} data-autofocus>
            Cancel
          </Button>
          <Button component="a" href={address} target="_blank" rel="noopener noreferrer" onClick={onClose} data-testid="terminal-link-open">
            Open
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}
