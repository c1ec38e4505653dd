raise SystemExit("settings of the user were read")
