"""`python -m nsa`: see nsa.cli."""

if __name__ == "__main__":  # a process that a stage starts runs this module too, and needs no command line
    from nsa.cli import main

    main()
