import { Button, Group, Modal, Stack, Text, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { Session } from "../../net/api.ts";
import { sayError } from "../../net/http.ts";
import { plain } from "../../protocol/reveal.ts";
import { api } from "../../wiring.ts";

export function RenameSession({ session, onClose }: { session: Session; onClose: () => void }) {
  const queries = useQueryClient();
  const [title, setTitle] = useState(session.title);
  const saving = useMutation({
    mutationFn: () => api.changeSession(session.id, { title: title.trim() }),
    onSuccess: async () => {
      await queries.invalidateQueries({ queryKey: ["sessions"] });
      onClose();
    },
  });
  return (
    <Modal opened onClose={onClose} title="Rename session" centered closeButtonProps={{ "aria-label": "Close" }}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          saving.mutate();
        }}
      >
        <Stack>
          <TextInput label="Title" value={title} maxLength={200} data-autofocus onChange={(event) => setTitle(event.currentTarget.value)} error={saving.error ? sayError(saving.error) : undefined} />
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              Cancel
            </Button>
            <Button type="submit" loading={saving.isPending} disabled={title.trim() === ""}>
              Rename
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}

export function DeleteSession({ session, onClose, onGone }: { session: Session; onClose: () => void; onGone: () => void }) {
  const queries = useQueryClient();
  const deleting = useMutation({
    mutationFn: () => api.deleteSession(session.id),
    onSuccess: async () => {
      onGone();
      await queries.invalidateQueries({ queryKey: ["sessions"] });
      onClose();
    },
  });
  return (
    <Modal opened onClose={onClose} title="Delete session?" centered closeButtonProps={{ "aria-label": "Close" }}>
      <Stack>
        <Text>
          “{plain(session.title) || "Untitled session"}”, its conversation and its workspace will be gone for good.
        </Text>
        {deleting.error ? (
          <Text c="red" role="alert">
            {sayError(deleting.error)}
          </Text>
        ) : null}
        <Group justify="flex-end">
          <Button variant="default" onClick={onClose} data-autofocus>
            Keep
          </Button>
          <Button color="red" loading={deleting.isPending} onClick={() => deleting.mutate()} data-testid="delete-confirm">
            Delete
          </Button>
        </Group>
      </Stack>
    </Modal>
  );
}
