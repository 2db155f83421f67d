"""The xDS message types themselves, for whoever may know protobuf: the control half, the admin pages, the embedded Pilot."""
